"""Half a cosine."""

from __future__ import annotations

import math

from gancompress.masks.schedule import SCHEDULES


@SCHEDULES.register("cosine")
def cosine(u: float) -> float:
    """Slow, fast, slow."""
    return (1 - math.cos(math.pi * u)) / 2
