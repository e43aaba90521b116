"""How many channels, or heads, single groups keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.allocation import ALLOCATIONS, Values, shares
from gancompress.masks.choose import counted


@ALLOCATIONS.register("counts")
def counts(
    graph: ChannelGraph,
    values: Values,
    alive: Values,
    *,
    of: Mapping[str, Annotated[int, Field(ge=1)]],
) -> dict[str, np.ndarray]:
    """Named groups keep so many channels; all others give the same share to meet the target (ours).

    What is beyond the count goes first, and what is within it never. Where whole heads go together
    the queries of an attention are a group of one channel a head: ``of: {attn.q: 4}`` leaves 4. A
    target that is met before leaves more. Patterns are those of `wrap`; the first that matches
    counts. Without a target: `ratio_plan`.

    Raises:
        ConfigError: a pattern matches nothing, or a group has not so many channels.
    """
    stay, found = counted(graph, of), dict[str, np.ndarray]()
    for name, own in values.items():
        found[name] = shares(own, alive[name])
        if name in stay:
            order = np.argsort(np.where(alive[name], own, -np.inf), kind="stable")
            gone = len(own) - stay[name]
            found[name] = np.full(len(own), np.inf)
            found[name][order[:gone]] = np.linspace(-2, -1, gone)
    return found
