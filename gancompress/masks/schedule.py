"""What a schedule is: which share of the removal is done at a given progress.

They live in `gancompress.masks.schedules`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gancompress.errors import ConfigError
from gancompress.plugins.kinds import SCHEDULES as SCHEDULES

Schedule = Callable[[float], float]
"""progress in [0, 1] -> share of the removal done, in [0, 1], never falling."""


def build_schedule(schedule: Any, start: float = 0.0, end: float = 1.0) -> Schedule:
    """Return ``schedule`` (a name, a name with options, or a function) from ``start`` to ``end``.

    Raises:
        ConfigError: unknown name or option, or not 0 <= start < end <= 1.
    """
    shape: Schedule = SCHEDULES.bind(schedule)
    if not 0 <= start < end <= 1:
        raise ConfigError(f"schedule start={start}, end={end}: need 0 <= start < end <= 1")
    return lambda t: shape(min(max((t - start) / (end - start), 0.0), 1.0))
