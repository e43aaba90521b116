"""Attention transfer (Zagoruyko & Komodakis 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from gancompress.distill.maths import attention_map, full_precision, map_distance
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs, resolve_pairs

Reduction = Literal["sum", "mean"]


def attention_transfer(student: Tensor, teacher: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Match unit attention maps of (n, c, h, w) activations.

    Zagoruyko & Komodakis 2017, Eq. 2 with a squared norm.

    Channel counts may differ; n, h, w may not. ``sum`` adds the squared differences over pixels: in
    [0, 2] at any resolution. ``mean`` divides by h*w, as the authors' public code does with its
    weight of 1000.
    """
    loss = map_distance(attention_map(student), attention_map(teacher))
    return loss if reduction == "sum" else loss / student[0, 0].numel()


@DISTILLERS.register("attention")
class Attention(nn.Module):
    """Mean over pairs of ``attention_transfer``, in [0, 2] with ``sum``; channels may shrink."""

    pairs: Pairs

    def __init__(
        self,
        context: Context,
        *,
        pairs: Sequence[str | Sequence[str]] | None = None,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.pairs = resolve_pairs(context, pairs)

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        with full_precision(batch.student_images):
            losses = [
                attention_transfer(*batch.recorded(tap), cast(Reduction, self.reduction))
                for tap, _ in self.pairs
            ]
            return torch.stack(losses).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: no state depends on channels."""
