"""Which channels go, when what each one is worth is an error: least error for the cost saved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.budget import Budget


def allocate(
    graph: ChannelGraph, worth: Mapping[str, np.ndarray], budget: Budget
) -> dict[str, list[int]]:
    """Return the kept channels of each group, at the budget's goal (ours).

    Greedy: the block of channels goes whose worth, divided by the cost that it saves now, is
    least; in the end, blocks that went early come back where there is room.

    Args:
        graph: groups and their cost.
        worth: by group (c,), in one unit for all groups; groups that are not there stay whole.
        budget: goal and rounding; checked by the caller.
    """
    order = {n: [int(i) for i in np.argsort(v, kind="stable")] for n, v in worth.items()}
    widths = graph.widths
    position = {n: i for i, n in enumerate(widths)}
    gone: dict[str, list[list[int]]] = {n: [] for n in worth}

    def cost(changes: Mapping[str, int]) -> float:
        return budget.load(graph, {**widths, **changes})

    def block(name: str) -> int:
        unit = budget.unit(name)
        size = widths[name] % unit or unit
        return size if widths[name] - size >= budget.floor(graph[name].size, unit) else 0

    while cost({}) > budget.goal:
        price = budget.price(graph, widths)
        best = min(
            (float(worth[n][order[n][:b]].sum()) / max(float(price[position[n]]) * b, 1e-12), n)
            for n in worth
            if (b := block(n))
        )
        name, size = best[1], block(best[1])
        gone[name].append(order[name][:size])
        order[name] = order[name][size:]
        widths[name] -= size
    while True:
        back = [
            (float(worth[n][blocks[-1]].sum()), n)
            for n, blocks in gone.items()
            if blocks and cost({n: widths[n] + len(blocks[-1])}) <= budget.goal
        ]
        if not back:
            break
        name = max(back)[1]
        widths[name] += len(gone[name][-1])
        order[name] += gone[name].pop()
    return {n: sorted(o) for n, o in order.items()}


def order_of_going(
    graph: ChannelGraph, worth: Mapping[str, np.ndarray], budget: Budget | None
) -> dict[str, np.ndarray]:
    """Return when each channel goes if all but one of each group do: (c,), 0 is first (ours).

    As in `allocate`, the block goes whose worth, divided by the cost that it saves now, is least.
    Of a target of time, what a channel saves is counted in MACs: seconds fall in stairs.

    Args:
        graph: groups and their cost.
        worth: by group (c,), in one unit for all groups; others stay whole.
        budget: unit of the cost and rounding; ``None``: parameters, one channel at a time.
    """
    order = {n: [int(i) for i in np.argsort(v, kind="stable")] for n, v in worth.items()}
    place = {n: np.zeros(len(v)) for n, v in worth.items()}
    kind = "params" if budget is None else budget.kind
    widths = graph.widths
    position = {n: i for i, n in enumerate(widths)}
    gone = 0

    def block(name: str) -> list[int]:
        unit = 1 if budget is None else budget.unit(name)
        return order[name][: widths[name] % unit or unit] if widths[name] > unit else []

    def ratio(name: str, channels: list[int], price: np.ndarray) -> float:
        saved = max(float(price[position[name]]) * len(channels), 1e-12)
        return float(worth[name][channels].sum()) / saved

    while any(map(block, order)):
        price = graph.marginal(widths, kind)
        _, name = min((ratio(n, b, price), n) for n in order if (b := block(n)))
        channels = block(name)
        place[name][channels] = gone + np.arange(len(channels))
        gone += len(channels)
        order[name] = order[name][len(channels) :]
        widths[name] -= len(channels)
    for name, left in order.items():
        place[name][left] = gone
        gone += len(left)
    return place
