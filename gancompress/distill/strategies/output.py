"""Match the images themselves: pixels, or features of a given function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.distill.maths import full_precision, relative_mse, widen
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs
from gancompress.errors import ConfigError

Norm = Literal["l1", "l2"]
Features = Callable[[Tensor], Sequence[Tensor]]


@DISTILLERS.register("pixel")
class Pixel(nn.Module):
    """Match pixels: mean absolute (``l1``, in [0, 2]) or squared (``l2``, in [0, 4]) difference.

    The L1 form is the output loss of TinyGAN (Chang & Lu 2020) and CAGAN (Liu et al. 2021).
    """

    pairs: Pairs = ()

    def __init__(self, context: Context, *, norm: Norm = "l1") -> None:
        super().__init__()
        self.norm = norm

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        student, teacher = batch.images()
        difference = F.l1_loss if self.norm == "l1" else F.mse_loss
        with full_precision(student):
            return difference(student, teacher)

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: images do not shrink."""


def _given(features: Features | None) -> None:
    if features is None:
        raise ConfigError(
            "perceptual needs features=..., a function from images to feature tensors; "
            "a recipe cannot name one: use 'discriminator_features' there"
        )


@DISTILLERS.register("perceptual", check=_given)
class Perceptual(nn.Module):
    """Match features of both images: squared difference over the teacher's squared norm (ours).

    ``features`` maps images (n, c, h, w) to a sequence of tensors, for example the stages of a
    classifier; gradients flow through it, so it must be frozen and in eval mode. Scale: 1 when the
    student's features are zero.

    Raises:
        ConfigError: no ``features``; the package ships no perceptual network of its own.
    """

    pairs: Pairs = ()

    def __init__(self, context: Context, *, features: Features | None = None) -> None:
        super().__init__()
        # In a tuple: a network given here must not become part of our parameters or state.
        self._features = (features,)

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        student, teacher = batch.images()
        features = self._features[0]
        with torch.no_grad():
            wanted = features(teacher)
        found = features(student)
        if len(found) == 0 or len(found) != len(wanted):
            raise ConfigError(f"perceptual: features returned {len(found)} tensors")
        with full_precision(student):
            losses = [relative_mse(widen(s), widen(t)) for s, t in zip(found, wanted, strict=True)]
            return torch.stack(losses).mean()

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: images do not shrink."""
