"""Frechet distance between two sets of features, exact in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.errors import DataError


class FeatureStatistics:
    """Mean and covariance of features (n, d), summed up batch by batch in float64 (ours).

    Keeps the running mean and the scatter around it (Chan et al. 1983), so that a large common
    offset costs no digits.
    """

    def __init__(self) -> None:
        self.n = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Return the statistics of one whole set (n, d)."""
        statistics = cls()
        statistics.update(features)
        return statistics

    def update(self, features: Tensor) -> None:
        """Add a batch (n, d) of any float type.

        Raises:
            DataError: not a matrix, another d than before, or non-finite values.
        """
        if features.ndim != 2 or len(features) == 0:
            raise DataError(f"features must be (n, d) with n > 0, got {tuple(features.shape)}")
        batch = features.detach().double().cpu()
        if not torch.isfinite(batch).all():
            raise DataError("the features hold NaN or infinite values: the images are broken")
        mean = batch.mean(0)
        centred = batch - mean
        scatter = centred.T @ centred
        if self._mean is None or self._scatter is None:
            self.n, self._mean, self._scatter = len(batch), mean, scatter
            return
        if mean.shape != self._mean.shape:
            raise DataError(f"features of width {len(mean)} after width {len(self._mean)}")
        total = self.n + len(batch)
        shift = mean - self._mean
        self._scatter += scatter + torch.outer(shift, shift) * (self.n * len(batch) / total)
        self._mean = self._mean + shift * (len(batch) / total)
        self.n = total

    @property
    def mean(self) -> Tensor:
        """Mean (d,).

        Raises:
            DataError: nothing was added yet.
        """
        if self._mean is None:
            raise DataError("no features were added; call update first")
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """Covariance (d, d), normalised by n - 1.

        Raises:
            DataError: fewer than two features were added.
        """
        if self._scatter is None or self.n < 2:
            raise DataError(f"a covariance needs at least 2 images, got {self.n}")
        return self._scatter / (self.n - 1)


def symmetric_root(matrix: Tensor) -> Tensor:
    """Return the positive semi-definite square root of a covariance (d, d) in float64."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Return the squared Frechet distance of two Gaussians, >= 0, lower is closer.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017, Eq. 6).
    The last trace is the sum of the singular values of C1^(1/2) C2^(1/2), which keeps full
    precision where the covariances are singular. The estimate falls with the number of images:
    compare at equal counts only.

    Raises:
        DataError: the widths differ, or a set has fewer than 2 images.
    """
    if first.mean.shape != second.mean.shape:
        raise DataError(
            f"features of width {len(first.mean)} and {len(second.mean)} cannot be compared"
        )
    overlap = symmetric_root(first.covariance) @ symmetric_root(second.covariance)
    cross = torch.linalg.svdvals(overlap).sum()
    shift = (first.mean - second.mean).square().sum()
    spread = first.covariance.trace() + second.covariance.trace()
    # Rounding may leave a few ulp below zero for equal sets; a distance is not negative.
    return max(0.0, float(shift + spread - 2 * cross))
