"""Co-attention of DMAD (Li et al. 2020): a target made of generator and discriminator maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.distill.frozen_discriminator import FrozenDiscriminator
from gancompress.distill.maths import (
    attention_map,
    channel_energy,
    full_precision,
    map_distance,
    unit,
)
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs, resolve_pairs, tap_shapes
from gancompress.errors import ConfigError


@DISTILLERS.register("co_attention")
class CoAttention(nn.Module):
    """Match unit attention maps to 0.5 A(teacher) + 0.5 A(its discriminator), mean over pairs.

    As in DMAD's public code the discriminator looks at the *student's* image, and its map, resized
    to the generator's, is part of the target only. That target is not reached by a copy of the
    teacher: the loss has a floor above zero. ``symmetric`` (ours) adds the discriminator's map of
    its own image to both sides instead: zero at equality, with gradient through the student's
    image. All maps are brought to unit norm before they are added, and after. Scale [0, 2]. Each
    generator tap looks at the discriminator tap nearest in size.

    Raises:
        ConfigError: no discriminator, an unknown tap, or maps without two spatial dimensions.
    """

    pairs: Pairs

    def __init__(
        self,
        context: Context,
        *,
        pairs: Sequence[str | Sequence[str]] | None = None,
        taps: Sequence[str] | None = None,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.pairs = resolve_pairs(context, pairs)
        self.discriminator = FrozenDiscriminator(context, "co_attention", taps)
        shapes = tap_shapes(context.student, context.example, [s for s, _ in self.pairs])
        self.partners: dict[str, str] = {}
        for (tap, _), shape in zip(self.pairs, shapes, strict=True):
            if len(shape) != 4:
                raise ConfigError(f"co_attention: tap {tap!r} has shape {shape}, not (n, c, h, w)")
            self.partners[tap] = min(
                self.discriminator.sizes,
                key=lambda other: abs(
                    math.log(math.prod(shape[2:]) / math.prod(self.discriminator.sizes[other]))
                ),
            )
        self.discriminator.keep(
            sorted(set(self.partners.values()), key=list(self.discriminator.sizes).index)
        )

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        student_images, teacher_images = batch.images()
        with torch.set_grad_enabled(self.symmetric and torch.is_grad_enabled()):
            seen = self.discriminator.features(student_images, batch.labels, batch.condition)
        wanted = seen
        if self.symmetric:
            with torch.no_grad():
                wanted = self.discriminator.features(teacher_images, batch.labels, batch.condition)
        losses: list[Tensor] = []
        with full_precision(student_images):
            for tap, _ in self.pairs:
                student, teacher = batch.recorded(tap)
                size, partner = student.shape[2:], self.partners[tap]
                target = _joint(attention_map(teacher), wanted[partner], size)
                own = attention_map(student)
                if self.symmetric:
                    own = _joint(own, seen[partner], size)
                losses.append(map_distance(own, target.detach()))
            return torch.stack(losses).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: no state depends on channels."""


def _joint(own: Tensor, features: Tensor, size: torch.Size) -> Tensor:
    map_ = (channel_energy(features) / features.shape[1]).unsqueeze(1)
    if map_.shape[2:] != size:
        map_ = F.interpolate(map_, size=size, mode="bilinear", align_corners=False)
    return unit(0.5 * own + 0.5 * unit(map_.flatten(1)))
