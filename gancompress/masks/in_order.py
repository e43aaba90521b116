"""Landing on the budget in an order that was given from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.landing import SLACK

if TYPE_CHECKING:
    from gancompress.masks.budget import Budget


def kill_in_order(
    budget: Budget,
    graph: ChannelGraph,
    alive: Mapping[str, np.ndarray],
    keys: Mapping[str, np.ndarray],
    allowed: float,
    frozen: frozenset[str] = frozenset(),
) -> dict[str, np.ndarray]:
    """Remove channels, the lowest key first, until the cost is at most ``allowed`` (ours).

    Channels go in blocks that keep widths multiples of ``budget.unit``; a block counts with the
    mean of its keys. A block that would end well below what is allowed lets later ones pass that do
    not, and what turns out not to have been needed comes back.

    Args:
        budget: targets and rounding rules.
        graph: groups and cost.
        alive: group name to bool (c,).
        keys: group name to float64 (c,); groups without a key keep their channels.
        allowed: load allowed now.
        frozen: groups that may not lose channels.

    Returns:
        Group name to the channels to kill (int64).
    """
    order = {n: [int(i) for i in np.argsort(k, kind="stable") if alive[n][i]]
             for n, k in keys.items() if n not in frozen}  # fmt: skip
    widths = {g.name: int(alive[g.name].sum()) for g in graph.groups}
    killed: dict[str, list[list[int]]] = {}
    taken: list[str] = []

    def block(name: str) -> list[int]:
        unit = budget.unit(name)
        count = widths[name] % unit or unit
        least = budget.floor(graph[name].size, unit)
        return order[name][:count] if widths[name] - count >= least else []

    def after(name: str, change: int) -> float:
        return budget.load(graph, {**widths, name: widths[name] + change})

    cost = budget.load(graph, widths)
    while cost > allowed:
        heads = sorted((float(keys[n][b].mean()), n) for n in order if (b := block(n)))
        if not heads:
            break
        name = heads[0][1]
        if after(name, -len(block(name))) < (1 - SLACK) * allowed:
            near = (n for _, n in heads if after(n, -len(block(n))) >= (1 - SLACK) * allowed)
            name = next(near, name)
        gone = block(name)
        killed.setdefault(name, []).append(gone)
        taken.append(name)
        order[name] = order[name][len(gone) :]
        widths[name] -= len(gone)
        cost = budget.load(graph, widths)
    for name in reversed(taken):
        if cost <= allowed and after(name, len(killed[name][-1])) <= allowed:
            widths[name] += len(killed[name].pop())
            cost = budget.load(graph, widths)
    return {n: np.array(sum(b, []), np.int64) for n, b in killed.items() if any(b)}
