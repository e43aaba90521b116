"""A strength for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.allocation import ALLOCATIONS, Values, shares
from gancompress.masks.choose import choose_groups


@ALLOCATIONS.register("ratios")
def ratios(
    graph: ChannelGraph,
    values: Values,
    alive: Values,
    *,
    of: Mapping[str, Annotated[float, Field(ge=0.0, le=1.0)]],
    other: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0,
) -> dict[str, np.ndarray]:
    """Groups give in proportion: ``of`` maps a pattern to its ratio, ``other`` is for the rest.

    As torch-pruning's ``pruning_ratio_dict`` under a target: the target says how much goes in all,
    the ratios how it is shared out; a group of ratio 0 gives nothing before all others are at their
    least. Patterns are those of `wrap`; the first that matches counts. For fixed ratios without a
    target: `ratio_plan`.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    matched = {pattern: choose_groups(graph, (pattern,)) for pattern in of}
    found = {}
    for name, own in values.items():
        ratio = next((of[p] for p, names in matched.items() if name in names), other)
        found[name] = shares(own, alive[name]) / ratio if ratio > 0 else np.full(len(own), np.inf)
    return found
