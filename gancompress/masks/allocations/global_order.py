"""One threshold for all."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.allocation import ALLOCATIONS, Values, shares


@ALLOCATIONS.register("global")
def global_order(
    graph: ChannelGraph,
    values: Values,
    alive: Values,
    *,
    normalise: Literal["none", "mean", "max"] = "none",
    most: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0,
) -> dict[str, np.ndarray]:
    """One threshold on importance for all groups (Liu et al. 2017; CAT's binary search finds it).

    ``normalise`` divides the importance of a group by its living channels' mean or maximum
    (torch-pruning's normaliser). A group gives up to ``most`` of what it has, as long as others can
    give. An importance that ranks within groups says nothing across them: ask for ``ranks: false``.
    """
    found = {}
    for name, own in values.items():
        living = own[alive[name]]
        scale = {"none": 1.0, "mean": living.mean(), "max": living.max()}[normalise]
        keys = own / max(float(scale), 1e-30)
        found[name] = np.where(shares(own, alive[name]) > most, np.inf, keys)
    return found
