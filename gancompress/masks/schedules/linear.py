"""A straight line."""

from __future__ import annotations

from gancompress.masks.schedule import SCHEDULES


@SCHEDULES.register("linear")
def linear(u: float) -> float:
    """The same share every step."""
    return u
