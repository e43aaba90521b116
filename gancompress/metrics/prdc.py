"""Precision, recall, density and coverage: fidelity and diversity apart.

Distances are compared by matrix products in float32 first; whatever is too near to tell is computed
again from exact differences in float64, so that the figures are those of exact differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gancompress.errors import DataError

BLOCK = 256  # rows compared at once: memory is a few times BLOCK x n float32, whatever n is
_SPARE = 8  # neighbours beyond the k-th that are computed exactly
_PAIRS = 2**25  # numbers of the pairs that are computed exactly at once


@dataclass(frozen=True)
class PRDC:
    """The four figures, higher is better; all in [0, 1] but density, which may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


class _Points:
    """Features (n, d) in float64, with what bounds their squared distances from below (ours)."""

    def __init__(self, points: Tensor) -> None:
        self.points = points
        # A fast product must be an exact enough one: no TF32, no bf16 behind its back.
        plain = points.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
        self.low = points.float() if plain else points
        self.squares = self.low.square().sum(1)
        width = points.shape[1]
        # Error of 2ab: 8 standard deviations of a sum of ``width`` rounded products.
        kind = torch.finfo(self.low.dtype)
        self.slack = kind.eps * (4 * math.sqrt(width) + 8)
        self.least = 8 * width * kind.tiny  # products may vanish beside an outlier

    def __len__(self) -> int:
        return len(self.points)

    def blocks(self) -> Iterator[slice]:
        """Yield the rows that are compared at once."""
        for start in range(0, len(self), BLOCK):
            yield slice(start, min(start + BLOCK, len(self)))

    def at_least(self, rows: slice, others: _Points) -> Tensor:
        """Return numbers (rows, others) that no squared distance is below."""
        some = self.squares[rows, None] * (1 - self.slack)
        bound = some + (others.squares[None] * (1 - self.slack) - self.least)
        return bound.addmm_(self.low[rows], others.low.T, alpha=-2)


def _distances(rows: Tensor, columns: Tensor) -> Tensor:
    # Exact differences: the matrix-product form makes twins look 1e-7 apart.
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")


def _common_scale(*sets: Tensor) -> list[_Points]:
    """Return the sets in float64, scaled by a power of two into the range of float32."""
    doubles = [s.double() for s in sets]
    scale = _scale(doubles)
    return [_Points(s * scale) for s in doubles]


def _scale(sets: Sequence[Tensor]) -> float:
    largest = max(float(s.abs().max()) for s in sets)
    return 2.0 ** -math.frexp(largest)[1] if 0 < largest < math.inf else 1.0


def neighbour_radii(features: Tensor, k: int) -> Tensor:
    """Return the distance (n,) of each of ``features`` (n, d) to its k-th nearest other one."""
    return _radii(_common_scale(features)[0], k) / _scale([features.double()])


def _radii(features: _Points, k: int) -> Tensor:
    count = min(len(features), k + 1 + _SPARE)
    found = []
    for rows in features.blocks():
        bound, near = features.at_least(rows, features).topk(count, largest=False)
        own = features.points[rows]
        exact = _distances(own[:, None], features.points[near]).squeeze(1)
        radii = exact.kthvalue(k + 1, dim=1).values
        # What is not among the nearest is at least as far as the farthest of them may be.
        unsure = radii.square() > bound[:, -1].double() if count < len(features) else torch.zeros(0)
        for i in torch.nonzero(unsure).flatten().tolist():
            radii[i] = _distances(own[i : i + 1], features.points).kthvalue(k + 1).values
        found.append(radii)
    return torch.cat(found)


def _within(rows: slice, one: _Points, two: _Points, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs (p,), (p,) of ``one[rows]`` and ``two`` that are nearer than ``radii``.

    ``radii`` broadcasts over (rows, two).
    """
    bound = one.at_least(rows, two)
    limit = radii.square()
    i, j = torch.nonzero(bound < limit.to(bound.dtype) * (1 + one.slack), as_tuple=True)
    limits = radii.expand(bound.shape)[i, j]
    room = 2 * one.slack * (one.squares[rows][i] + two.squares[j]).double() + 2 * one.least
    inside = bound[i, j].double() + room < limits.square()
    unsure = torch.nonzero(~inside).flatten()
    for part in unsure.split(max(1, _PAIRS // one.points.shape[1])):
        a, b = one.points[rows][i[part]], two.points[j[part]]
        inside[part] = _distances(a[:, None], b[:, None]).flatten() < limits[part]
    return i[inside], j[inside]


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
    ours, theirs = _common_scale(real, fake)
    real_radii, fake_radii = _radii(ours, k), _radii(theirs, k)
    inside = torch.zeros(len(fake), dtype=torch.long, device=real.device)  # balls holding each
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool) for _ in range(2))
    for rows in ours.blocks():
        i, j = _within(rows, ours, theirs, real_radii[rows, None])
        inside += torch.bincount(j, minlength=len(fake))
        covered[rows][i.cpu()] = True
        i, _ = _within(rows, ours, theirs, fake_radii[None])
        recalled[rows][i.cpu()] = True
    return PRDC(
        precision=float((inside > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=int(inside.sum()) / (k * len(fake)),
        coverage=float(covered.double().mean()),
    )
