"""A network's weights in three numbers, to tell later whether they are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ROUNDING = 1e-5
"""Relative distance up to which weights count as the same: a last digit, never a step."""
_CHUNK = 2**20


def fingerprint(network: nn.Module) -> list[float]:
    """Return the norm of all weights and buffers, and two fixed random sums of them (ours).

    Not bits: an initialisation that solves equations (orthogonal) ends otherwise in its last digit
    on another machine, and is the same all the same.
    """
    total = torch.zeros(3, dtype=torch.float64)
    for value in network.state_dict().values():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        # Anew for each: names and order are another matter (those of a graph form differ).
        rng = torch.Generator().manual_seed(0)
        for part in value.detach().reshape(-1).cpu().split(_CHUNK):
            x = part.double()
            signs = torch.rand(2, len(x), generator=rng).double() - 0.5
            total += torch.stack([x.square().sum(), *(signs @ x)])
    return [math.sqrt(float(total[0])), float(total[1]), float(total[2])]


def same_weights(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two fingerprints are of the same weights, rounding aside."""
    limit = ROUNDING * max(one[0], other[0])
    return all(a == b or abs(a - b) <= limit for a, b in zip(one, other, strict=True))
