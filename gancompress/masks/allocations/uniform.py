"""The same share everywhere."""

from __future__ import annotations

import numpy as np

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.allocation import ALLOCATIONS, Values, shares


@ALLOCATIONS.register("uniform")
def uniform(graph: ChannelGraph, values: Values, alive: Values) -> dict[str, np.ndarray]:
    """Every group gives the same share of its channels, up to one (Li et al. 2017, section 4)."""
    return {name: shares(own, alive[name]) for name, own in values.items()}
