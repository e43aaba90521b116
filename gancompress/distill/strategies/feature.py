"""Hint: the student's features, mapped by a 1x1 connector, equal the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gancompress.distill.connector import Connector
from gancompress.distill.maths import full_precision, relative_mse
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs, resolve_pairs, tap_shapes


@DISTILLERS.register("feature")
class Feature(nn.Module):
    """Squared error of connected features over the teacher's squared norm, mean over pairs.

    The form of GAN Compression (Li et al. 2020: MSE behind 1x1 convolutions); dividing
    by the teacher's norm is ours and makes one weight fit all taps. Scale: 1 when the student's
    features are zero.
    """

    pairs: Pairs

    def __init__(
        self,
        context: Context,
        *,
        pairs: Sequence[str | Sequence[str]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pairs = resolve_pairs(context, pairs)
        self.connectors = build_connectors(context, self.pairs, seed)

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        losses: list[Tensor] = []
        with full_precision(batch.student_images):
            for (tap, _), connector in zip(self.pairs, self.connectors, strict=True):
                student, teacher = batch.pair(tap)
                losses.append(relative_mse(connector(student), teacher))
            return torch.stack(losses).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Drop the connectors' columns of the channels that were cut."""
        shrink_connectors(self.pairs, self.connectors, kept)


def build_connectors(context: Context, pairs: Pairs, seed: int) -> nn.ModuleList:
    """Return one connector for each pair, on the student's device (ours)."""
    ours = tap_shapes(context.student, context.example, [s for s, _ in pairs])
    theirs = tap_shapes(context.teacher, context.example, [t for _, t in pairs])
    like = next(context.student.parameters())
    return nn.ModuleList(
        Connector(s[1], t[1], like=like, seed=seed + index)
        for index, (s, t) in enumerate(zip(ours, theirs, strict=True))
    )


def shrink_connectors(pairs: Pairs, connectors: nn.ModuleList, kept: Mapping[str, Tensor]) -> None:
    """Apply a live cut to the connectors whose student tap is in ``kept`` (ours)."""
    for (tap, _), connector in zip(pairs, connectors, strict=True):
        if tap in kept and isinstance(connector, Connector):
            connector.shrink(kept[tap])
