"""Precision, recall, density and coverage: fidelity and diversity apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gancompress.errors import DataError

BLOCK = 1000  # rows compared at once: memory is BLOCK x n float64, whatever n is


@dataclass(frozen=True)
class PRDC:
    """The four figures, higher is better; all in [0, 1] but density, which may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def _distances(rows: Tensor, columns: Tensor) -> Tensor:
    # Exact differences: the matrix-product form makes twins look 1e-7 apart.
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")


def neighbour_radii(features: Tensor, k: int) -> Tensor:
    """Return the distance (n,) of each of ``features`` (n, d) to its k-th nearest other one."""
    radii = [
        _distances(block, features).kthvalue(k + 1, dim=1).values for block in features.split(BLOCK)
    ]
    return torch.cat(radii)


def prdc(real: Tensor, fake: Tensor, *, k: int = 5) -> PRDC:
    """Compare features ``real`` (n, d) with ``fake`` (m, d) through balls of the k-th neighbour.

    Precision and recall: Kynkaanniemi et al. 2019, Eq. 1 and 2. Density and coverage: Naeem et al.
    2020, Eq. 4 and 5. All four depend on the counts: compare at equal n, m and k only.

    Raises:
        DataError: the widths differ, or a set has no k-th neighbour.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise DataError(
            f"features must be (n, d) of one width: {tuple(real.shape)}, {tuple(fake.shape)}"
        )
    if min(len(real), len(fake)) <= k:
        raise DataError(
            f"{len(real)} real and {len(fake)} generated images have no {k}-th neighbour; "
            f"use more than {k} of each"
        )
    real, fake = real.double(), fake.double()
    real_radii, fake_radii = neighbour_radii(real, k), neighbour_radii(fake, k)
    inside = torch.zeros(len(fake), dtype=torch.long)  # real balls holding each fake
    recalled, covered = [], []
    for block, radii in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
        distances = _distances(block, fake)
        in_ball = distances < radii[:, None]
        inside += in_ball.sum(0)
        covered.append(in_ball.any(1))
        recalled.append((distances < fake_radii[None, :]).any(1))
    return PRDC(
        precision=float((inside > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=int(inside.sum()) / (k * len(fake)),
        coverage=float(torch.cat(covered).double().mean()),
    )
