"""In which steps widths save time: kernels compute eight or sixteen channels at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from gancompress.graph.groups import ChannelGraph
from gancompress.target import Setting
from gancompress.timing.clock import by_turns
from gancompress.timing.kept import kept
from gancompress.timing.single import single
from gancompress.timing.work import main_kind, smaller, work_of

UNITS = (1, 2, 4, 8, 16)
_WIDTHS = (33, 35, 36, 37, 40, 42, 43, 44, 46, 48, 49, 50, 52, 53, 56, 57, 58, 60, 63, 64)
_WORTH = 1.05  # a coarser unit must be so many times faster a multiply
_MACS = 4e6  # of one measurement


def stair_unit(graph: ChannelGraph, setting: Setting) -> tuple[int, float]:
    """Return the steps in which widths save time on this machine, and the price of others (ours).

    Measured on the operator that multiplies most, at widths from 33 to 64 in and out, on less space
    so that it takes a second; kept in the user's cache folder.

    Returns:
        1, 2, 4, 8 or 16 channels: the finest unit whose multiples are within 5 % of the fastest for
        their size; and how many times longer other widths take, at least 1.
    """
    found = main_kind(work_of(graph, setting.batch))
    if found is None or min(found[1:]) < 32:
        return 1, 1.0
    kind = smaller(found[0], _MACS, 48)

    def measure() -> dict[str, float]:
        calls = [single(kind, w, w, setting) for w in _WIDTHS]
        times = by_turns(calls, setting.device, seconds=0.6)
        return {str(w): t for w, t in zip(_WIDTHS, times, strict=True)}

    times = {int(w): float(t) for w, t in kept(setting, f"stairs {kind}", measure).items()}
    return unit_of(times)


def unit_of(times: Mapping[int, float]) -> tuple[int, float]:
    """Return unit and price of other widths (see `stair_unit`) from seconds by width.

    Against the smooth curve through all of them: wider layers compute more efficiently anyway.
    """
    smooth = np.poly1d(np.polyfit(list(times), list(times.values()), 2))

    def price(unit: int) -> float:
        whole = [t / smooth(w) for w, t in times.items() if w % unit == 0]
        return math.fsum(whole) / len(whole)

    prices = {unit: price(unit) for unit in UNITS}
    best = min(prices.values())
    unit = next(u for u in UNITS if prices[u] <= _WORTH * best)
    # What the next multiple of the unit takes, which is what others are taken for.
    over = [
        t / (prices[unit] * smooth(w + -w % unit)) for w, t in times.items() if w % unit
    ]  # fmt: skip
    return unit, max(1.0, math.fsum(over) / len(over)) if over else 1.0


def units(graph: ChannelGraph, unit: int) -> dict[str, int]:
    """Return by group in what steps its width is chosen: a quarter of its channels at most (ours).

    A group of fewer channels costs little, and a coarse step would leave it no choice.
    """
    return {
        g.name: max([u for u in UNITS if u <= unit and 4 * u <= g.size], default=1)
        for g in graph.groups
    }
