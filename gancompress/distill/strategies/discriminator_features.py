"""Match what the teacher's discriminator sees in both images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gancompress.distill.frozen_discriminator import FrozenDiscriminator
from gancompress.distill.maths import full_precision, relative_mse
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs


@DISTILLERS.register("discriminator_features")
class DiscriminatorFeatures(nn.Module):
    """Match the features of the teacher's discriminator on both images, mean over taps.

    Squared difference over the squared norm on the teacher's image: 1 when the student's features
    are zero. DMAD (Li et al. 2020) uses the last convolution and an L2 norm, GCC (Li et al. 2021)
    two layers and a square root; the scaling is ours. Each image passes the discriminator once.

    Raises:
        ConfigError: no discriminator, or an unknown tap.
    """

    pairs: Pairs = ()

    def __init__(self, context: Context, *, taps: Sequence[str] | None = None) -> None:
        super().__init__()
        self.discriminator = FrozenDiscriminator(context, "discriminator_features", taps)

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        student, teacher = batch.images()
        # Two passes, not one of the joined batch: the teacher's half needs no graph.
        with torch.no_grad():
            wanted = self.discriminator.features(teacher, batch.labels, batch.condition)
        found = self.discriminator.features(student, batch.labels, batch.condition)
        with full_precision(student):
            return torch.stack([relative_mse(found[tap], wanted[tap]) for tap in found]).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: the teacher's discriminator is never cut."""
