"""Learnable channel masks: relaxations, penalties, importances, schedules, budget."""

from __future__ import annotations

from gancompress.masks.allocation import ALLOCATIONS
from gancompress.masks.budget import Budget
from gancompress.masks.importance import IMPORTANCES
from gancompress.masks.mask import ChannelMask, Gate
from gancompress.masks.penalty import PENALTIES
from gancompress.masks.relax import RELAXATIONS
from gancompress.masks.schedule import SCHEDULES
from gancompress.target import Target

__all__ = [
    "ALLOCATIONS",
    "IMPORTANCES",
    "PENALTIES",
    "RELAXATIONS",
    "SCHEDULES",
    "Budget",
    "ChannelMask",
    "Gate",
    "Target",
]
