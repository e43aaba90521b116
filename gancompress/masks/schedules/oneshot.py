"""All at once."""

from __future__ import annotations

from gancompress.masks.schedule import SCHEDULES


@SCHEDULES.register("oneshot")
def oneshot(u: float) -> float:
    """Everything at once, at the start."""
    return 1.0
