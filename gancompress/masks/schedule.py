"""Schedules: which share of the removal is done at a given progress."""

from __future__ import annotations

import math
from collections.abc import Callable

from gancompress.errors import ConfigError
from gancompress.plugins.kinds import SCHEDULES

Schedule = Callable[[float], float]
"""progress in [0, 1] -> share of the removal done, in [0, 1], never falling."""


def build_schedule(name: str, start: float = 0.0, end: float = 1.0) -> Schedule:
    """Return the schedule ``name`` stretched over progress ``start`` to ``end``.

    Raises:
        ConfigError: unknown name, or not 0 <= start < end <= 1.
    """
    shape: Schedule = SCHEDULES.get(name)
    if not 0 <= start < end <= 1:
        raise ConfigError(f"schedule start={start}, end={end}: need 0 <= start < end <= 1")
    return lambda t: shape(min(max((t - start) / (end - start), 0.0), 1.0))


@SCHEDULES.register("cubic")
def cubic(u: float) -> float:
    """1 - (1 - u)^3: fast first, slow at the end (Zhu & Gupta 2017, Eq. 1)."""
    return 1 - (1 - u) ** 3


@SCHEDULES.register("linear")
def linear(u: float) -> float:
    """The same share every step."""
    return u


@SCHEDULES.register("cosine")
def cosine(u: float) -> float:
    """Slow, fast, slow."""
    return (1 - math.cos(math.pi * u)) / 2


@SCHEDULES.register("oneshot")
def oneshot(u: float) -> float:
    """Everything at once, at the start."""
    return 1.0
