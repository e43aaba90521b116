"""Timing a call: shortest of several, by turns where calls are compared, devices waited for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

Call = Callable[[], object]


def _ticker(device: str) -> Callable[[], float]:
    """Return the clock to use: on one thread of a CPU its own time, so that others do not count."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def wait(device: str) -> None:
    """Wait until ``device`` has done what it was asked for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def shortest(call: Call, device: str, *, seconds: float = 0.03, least: int = 3) -> float:
    """Return the shortest time of ``call`` in seconds; noise of a machine only ever adds.

    Args:
        call: what is timed; it runs once before.
        device: where it works.
        seconds: it is repeated for so long.
        least: and so often at least, unless one call takes as long as all.
    """
    call()
    wait(device)
    now = _ticker(device)
    best, spent, runs = math.inf, 0.0, 0
    while spent < seconds or (runs < least and spent < 8 * seconds):
        start = now()
        call()
        wait(device)
        took = now() - start
        best, spent, runs = min(best, took), spent + took, runs + 1
    return best


def by_turns(
    calls: Sequence[Call], device: str, *, seconds: float = 0.5, least: int = 5
) -> list[float]:
    """Return the shortest time of each of ``calls``, taken in turn, so that they meet one machine.

    Args:
        calls: what is compared; each runs once before.
        device: where they work.
        seconds: all together.
        least: rounds at least, unless they take four times ``seconds``.
    """
    for call in calls:
        call()
    wait(device)
    now = _ticker(device)
    best = [math.inf] * len(calls)
    begin, rounds = now(), 0
    while True:
        for i, call in enumerate(calls):
            start = now()
            call()
            wait(device)
            best[i] = min(best[i], now() - start)
        rounds += 1
        spent = now() - begin
        if spent > 4 * seconds or (spent > seconds and rounds >= least):
            return best
