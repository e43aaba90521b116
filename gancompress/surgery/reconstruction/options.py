"""How the systems of a reconstruction are set up and solved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional and keyword arguments of one call of a network."""


@dataclass(frozen=True)
class Options:
    """How the systems are set up and solved.

    Attributes:
        ridge: added to the diagonal, as a share of its mean.
        rows: most places (samples and pixels) a layer's system is made of, at least four a feature.
        features: layers that read more numbers than this (channels x kernel) are left as they are.
        statistics: whether norms' stored statistics are measured again.
        sums: whether a branch makes good what the others of its sum lack.
        seed: of the choice of places, and of random numbers that the networks draw.
    """

    ridge: float = 1e-4
    rows: int = 20_000
    features: int = 16_384
    statistics: bool = True
    sums: bool = True
    seed: int = 0
