"""The cubic schedule of gradual pruning, and its like."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gancompress.masks.schedule import SCHEDULES


@SCHEDULES.register("cubic")
def cubic(u: float, *, power: Annotated[float, Field(gt=0.0)] = 3.0) -> float:
    """1 - (1 - u)^3: fast first, slow at the end (Zhu & Gupta 2017, Eq. 1).

    Another ``power`` than theirs is ours.
    """
    return 1 - (1 - u) ** power
