"""Match how images are spread in a feature space, not one image with another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from gancompress.distill.frozen_discriminator import FrozenDiscriminator
from gancompress.distill.maths import EPS, full_precision, widen
from gancompress.distill.protocol import DISTILLERS, Context, DistillBatch
from gancompress.distill.tap_pairs import Pairs
from gancompress.errors import DataError

Features = Callable[[Tensor], Sequence[Tensor]]


def kernel_distance(x: Tensor, y: Tensor, scales: Sequence[float]) -> Tensor:
    """Return the squared maximum mean discrepancy of rows x (n, d) and y (m, d), in [0, 2].

    Gretton et al. 2012, eq. 5 (biased, so never below 0), with the mean of Gaussian kernels whose
    widths are ``scales`` times the mean distance within ``y``.
    """
    width = torch.cdist(y, y).detach().sum() / max(len(y) * (len(y) - 1), 1) + EPS

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        # Not cdist: its gradient at equal rows is not defined.
        square = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
        square = square.clamp_min(0) / width.square()
        return torch.stack([torch.exp(-square / (2 * s * s)) for s in scales]).mean(0)

    return kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()


@DISTILLERS.register("distribution")
class Distribution(nn.Module):
    """Kernel distance of both batches in a feature space, mean over taps, in [0, 2].

    The idea of DiME (Yeo et al. 2024, seen as abstract): the student's images are to be spread as
    the teacher's, and no image is compared with another. Features are those of the teacher's
    discriminator, averaged over space, or of a function ``features`` given from Python, which must
    be frozen and in eval mode. Channels may shrink freely.

    Raises:
        ConfigError: neither features nor a discriminator.
        DataError: a batch of one sample, which has no spread.
    """

    pairs: Pairs = ()

    def __init__(
        self,
        context: Context,
        *,
        taps: Sequence[str] | None = None,
        scales: Sequence[Annotated[float, Field(gt=0.0)]] = (0.5, 1.0, 2.0),
        features: Features | None = None,
    ) -> None:
        super().__init__()
        self.scales = tuple(scales)
        # In a tuple: what is given here must not become part of our parameters or state.
        self._features = (features,)
        self.discriminator = (
            FrozenDiscriminator(context, "distribution", taps) if features is None else None
        )

    def forward(self, batch: DistillBatch) -> Tensor:
        """Return the loss of one batch."""
        student, teacher = batch.images()
        if len(student) < 2:
            raise DataError("distribution compares batches: it needs at least 2 samples")
        with torch.no_grad():
            wanted = self._seen(teacher, batch)
        found = self._seen(student, batch)
        with full_precision(student):
            pairs = zip(found, wanted, strict=True)
            return torch.stack([kernel_distance(a, b, self.scales) for a, b in pairs]).mean()

    def _seen(self, images: Tensor, batch: DistillBatch) -> list[Tensor]:
        given = self._features[0]
        if given is not None:
            found = list(given(images))
        else:
            assert self.discriminator is not None
            seen = self.discriminator.features(images, batch.labels, batch.condition)
            found = list(seen.values())
        return [widen(x).flatten(2).mean(2) if x.dim() > 2 else widen(x) for x in found]

    def shrink(self, kept: Mapping[str, Tensor]) -> None:
        """Do nothing: images do not shrink."""
