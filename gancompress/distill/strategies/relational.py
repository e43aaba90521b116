"""Relations instead of values: between samples (cosine) or between channels (Gram)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gancompress.distill.maths import full_precision, relative_mse, unit
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.strategies.feature import build_connectors, shrink_connectors
from gancompress.distill.tap_pairs import Pairs, resolve_pairs
from gancompress.errors import DataError

Relation = Literal["cosine", "gram"]


def cosine_matrix(x: Tensor) -> Tensor:
    """Return the (n, n) cosine similarities between the samples of activations (n, ...)."""
    rows = unit(x.flatten(1))
    return rows @ rows.T


def channel_gram(x: Tensor) -> Tensor:
    """Return Gram matrices (n, c, c) of (n, c, *space), divided by the number of positions."""
    maps = x.flatten(2)
    return maps @ maps.transpose(1, 2) / maps.shape[2]


@DISTILLERS.register("relational")
class Relational(nn.Module):
    """Match relation matrices, mean over pairs.

    ``cosine``: mean squared difference of the pairwise cosine similarities of a batch, off the
    diagonal, in [0, 4]; any number of channels. It compares similarity matrices, as
    similarity-preserving distillation does (Tung & Mori 2019, there of raw products, normalised by
    row); Park et al. (2019) compare distances and angles of tuples. ``gram``: channel Gram matrices
    behind a 1x1 connector, squared error over the teacher's squared norm, 1 when the student is
    zero. GCC (Li et al. 2021) adds such a Gram term, as a square root and unscaled.
    """

    pairs: Pairs

    def __init__(
        self,
        context: Context,
        *,
        pairs: Sequence[str | Sequence[str]] | None = None,
        relation: Relation = "cosine",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pairs = resolve_pairs(context, pairs)
        self.relation = relation
        self.connectors = (
            build_connectors(context, self.pairs, seed) if relation == "gram" else nn.ModuleList()
        )

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        n = batch.student_images.shape[0]
        if self.relation == "cosine" and n < 2:
            raise DataError("relational compares samples: it needs a batch of at least 2")
        losses: list[Tensor] = []
        with full_precision(batch.student_images):
            for index, (tap, _) in enumerate(self.pairs):
                student, teacher = batch.pair(tap)
                if self.relation == "cosine":
                    difference = cosine_matrix(student) - cosine_matrix(teacher)
                    off = difference - torch.diag(difference.diagonal())
                    losses.append(off.square().sum() / (n * (n - 1)))
                else:
                    mapped = self.connectors[index](student)
                    losses.append(relative_mse(channel_gram(mapped), channel_gram(teacher)))
            return torch.stack(losses).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Drop the connectors' columns of the channels that were cut (``gram``)."""
        if self.relation == "gram":
            shrink_connectors(self.pairs, self.connectors, kept)
