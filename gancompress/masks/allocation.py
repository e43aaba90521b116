"""What an allocation is: how many channels each group gives for a budget.

They live in `gancompress.masks.allocations`. An importance says which channel of a group goes
first; an allocation puts the channels of all groups in one order. Without one, `Budget.kill` takes
what is worth least for the cost that it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gancompress.graph.groups import ChannelGraph
from gancompress.plugins.kinds import ALLOCATIONS as ALLOCATIONS

Values = Mapping[str, np.ndarray]
Allocation = Callable[[ChannelGraph, Values, Values], dict[str, np.ndarray]]
"""(graph, importance by group (c,), alive by group (c,) bool) -> keys by group (c,): the lowest
goes first. Within a group keys must rise with importance. Groups without a key stay whole."""


def shares(values: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Return for each living channel which share of them goes before or with it, in (0, 1]; (c,).

    The dead get 0.
    """
    found = np.zeros(len(values))
    order = np.argsort(values[alive], kind="stable")
    place = np.empty(len(order))
    place[order] = np.arange(1, len(order) + 1)
    found[alive] = place / max(len(order), 1)
    return found
