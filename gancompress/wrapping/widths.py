"""Widths that just meet a budget: in given proportions, or the same share everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.budget import Budget
from gancompress.wrapping.handle import Masked


def scaled(masked: Masked, budget: Budget, shares: Mapping[str, float]) -> dict[str, int]:
    """Return the widths in proportion to ``shares`` that come nearest to the goal from below.

    Args:
        masked: handle of a wrapped generator.
        budget: whose goal is met.
        shares: by group, above 0; groups without a mask stay whole.
    """

    def widths(factor: float) -> dict[str, int]:
        found = {}
        for name, mask in masked.masks.items():
            unit = budget.unit(name)
            wanted = int(mask.size * min(shares[name] * factor, 1.0) / unit)
            wanted = max(budget.floor(mask.size, unit), wanted * unit)
            found[name] = min(mask.size, wanted)
        return found

    low, high = 0.0, 1.0 / min(shares.values())
    for _ in range(40):
        middle = (low + high) / 2
        fits = budget.load(masked.graph, {**masked.graph.widths, **widths(middle)}) <= budget.goal
        low, high = (middle, high) if fits else (low, middle)
    return widths(low)


def uniform_widths(graph: ChannelGraph, budget: Budget) -> dict[str, int]:
    """Return the widths nearest below the goal when every group keeps one share (ours).

    Out of reach: the smallest widths that the budget's rules allow.
    """
    unit = {g.name: budget.unit(g.name) for g in graph.groups}

    def widths(share: float) -> dict[str, int]:
        return {
            g.name: min(
                g.size,
                max(
                    budget.floor(g.size, unit[g.name]),
                    int(share * g.size / unit[g.name]) * unit[g.name],
                ),
            )
            for g in graph.groups
        }

    def fits(chosen: dict[str, int]) -> bool:
        return budget.load(graph, chosen) <= budget.goal

    # Widths change only where some share * size crosses a multiple of the unit.
    crossings = (
        k * u / g.size
        for g in graph.groups
        for u in (unit[g.name],)
        for k in range(1, g.size // u + 1)
    )
    shares = sorted({*crossings, 0.0})
    low, high = 0, len(shares) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if fits(widths(shares[middle] + 1e-9)):
            low = middle
        else:
            high = middle - 1
    chosen = widths(shares[low] + 1e-9)
    # The next share widens several groups at once; take as many of them as still fit.
    following = widths(shares[min(low + 1, len(shares) - 1)] + 1e-9)
    for name in sorted(chosen, key=lambda n: -graph[n].size):
        wider = {**chosen, name: following[name]}
        if fits(wider):
            chosen = wider
    return chosen


def largest(values: np.ndarray, width: int) -> list[int]:
    """Return the sorted indices of the ``width`` largest of ``values`` (c,)."""
    return sorted(values.argsort(kind="stable")[::-1][:width].tolist())
