"""Fewer threads when another program holds a core: threads that wait for each other bring nothing.

A convolution ends when its last thread ends. With as many threads as cores, one busy neighbour
makes all of them wait, often several times as long as one thread less would take.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from gancompress.modules.machine import usable_cores

WINDOW = 6  # steps that make a median: one picture or checkpoint among them does not count
GAIN = 0.9  # a change is kept if steps take less than this share of the time before
STARVED, FREE = 0.15, 0.05  # share of the time that threads wait for a core
PATIENCE, MOST_PATIENCE = 12, 400  # steps between two trials; doubles with each in vain
_CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Clocks:
    """Seconds on the wall, of CPU of this process, and that its threads waited for a core."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    waited: Callable[[], float | None] = lambda: run_delay()


@dataclass
class ThreadWatch:
    """Watches the steps of a run, and tries fewer threads when they wait for a core (ours).

    Call `step` once after each step. Every change is a trial of a few steps, and stays only if
    they are clearly faster; when cores are free again, more threads are tried. Results with
    another number of threads are equal to rounding, not bit for bit.

    Attributes:
        threads: threads now.
        most: never more than these.
        fixed: why the number is kept in any case ("OMP_NUM_THREADS is set"), or "": then a
            shortage is only said, once.
        set_threads: makes the change.
        clocks: what is read.
    """

    threads: int
    most: int = 0
    fixed: str = ""
    set_threads: Callable[[int], None] = torch.set_num_threads
    clocks: Clocks = field(default_factory=Clocks)
    _times: list[float] = field(default_factory=list)
    _mark: tuple[float, float, float | None] | None = None
    _start: tuple[float, float, float | None] | None = None
    _best: float = math.inf
    _trial: tuple[int, float] | None = None  # threads and median before
    _quiet: int = 0
    _patience: int = PATIENCE
    _said: bool = False

    def __post_init__(self) -> None:
        self.most = max(self.most, self.threads)

    def step(self) -> str:
        """Take note of one step; return what has been changed, in words, or ""."""
        now = (self.clocks.wall(), self.clocks.cpu(), self.clocks.waited())
        if self._mark is None:
            self._mark = self._start = now
            return ""
        self._times.append(now[0] - self._mark[0])
        self._mark = now
        self._quiet = max(0, self._quiet - 1)
        if self._trial is not None and self._hopeless():
            return self._judge(median(self._times))
        if len(self._times) < WINDOW:
            return ""
        took, share, ratio = median(self._times), *self._shares(now)
        if self._trial is not None:
            return self._judge(took)
        self._best = min(self._best, took)
        self._restart()
        if self._quiet:
            return ""
        short = took > 1.5 * self._best if share is None else share > STARVED
        if self.threads > 1 and short:
            if self.fixed:
                return self._say(f"{self.fixed}: the number stays {self.threads}")
            self._try(fewer(self.threads, ratio), took)
        elif self.threads < self.most and (share is None or share < FREE):
            self._try(self.threads + 1, took)
        return ""

    def _say(self, text: str) -> str:
        if self._said:
            return ""
        self._said = True
        return f"the threads of this run wait for cores that other programs hold. {text}"

    def _shares(self, now: tuple[float, float, float | None]) -> tuple[float | None, float]:
        """Return the share of time that a thread waited, and CPU seconds in a second."""
        assert self._start is not None
        wall, waited, before = now[0] - self._start[0], now[2], self._start[2]
        wall = max(wall, 1e-9)
        share = None if waited is None or before is None else (waited - before) / wall
        return share, (now[1] - self._start[1]) / wall

    def _hopeless(self) -> bool:
        assert self._trial is not None
        return len(self._times) >= 2 and min(self._times) > self._trial[1]

    def _restart(self) -> None:
        self._times, self._start = [], self._mark

    def _try(self, threads: int, took: float) -> None:
        self._trial = (self.threads, took)
        self._change(threads)

    def _judge(self, took: float) -> str:
        assert self._trial is not None
        (before, took_before), self._trial, tried = self._trial, None, self.threads
        if took > GAIN * took_before:
            self._change(before)
            self._patience = min(2 * self._patience, MOST_PATIENCE)
            self._quiet = self._patience
            return self._say("Fewer do not help") if before > tried else ""
        self._patience = self._quiet = PATIENCE
        self._best = took
        self._restart()
        why = "another program holds cores" if self.threads < before else "cores are free again"
        return (
            f"{before} -> {self.threads} threads: {why} (a step took {took_before:.2g} s, now "
            f"{took:.2g} s). Results are equal to rounding, not bit for bit; set OMP_NUM_THREADS "
            "to keep the number"
        )

    def _change(self, threads: int) -> None:
        self.threads = threads
        self.set_threads(threads)
        self._restart()


def fewer(threads: int, ratio: float) -> int:
    """Return how many threads to try: each busy neighbour takes about half of one core.

    Args:
        threads: now.
        ratio: CPU seconds in a second that they get.
    """
    neighbours = math.ceil(2 * (threads - ratio) - 0.25)
    return max(1, threads // 2, min(threads - 1, threads - neighbours))


def run_delay(tasks: Path = Path("/proc/self/task")) -> float | None:
    """Return the seconds that the threads of this process waited for a core; ``None``: unknown.

    Linux, where the kernel keeps scheduler statistics: nanoseconds, the second number.
    """
    total, known = 0, False
    try:
        for task in tasks.iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[1])
                known = True
            except (OSError, ValueError, IndexError):
                continue  # the thread has ended
    except OSError:
        return None
    return total / 1e9 if known else None


def chosen_by_user(env: Mapping[str, str] = os.environ) -> str:
    """Return the variable with which the user chose the number of threads, or ""."""
    return next((name for name in _CHOSEN_BY if env.get(name, "").strip()), "")


def start_threads(env: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """Return the number of threads to begin with, and the reason.

    torch counts the machine's cores; a container or a scheduler may allow fewer. Never more than
    torch has now, and what the user chose is kept.
    """
    now, cores = torch.get_num_threads(), usable_cores()
    if name := chosen_by_user(env):
        return now, f"set by {name}"
    if now > cores:
        return cores, f"torch would take {now}, this process may use {cores}"
    return now, f"torch's choice; this process may use {cores}"


def watch_threads(device: torch.device, env: Mapping[str, str] = os.environ) -> ThreadWatch | None:
    """Set the number of threads of this process to begin with; return who watches it on.

    Where the user has chosen the number, or asks torch for deterministic algorithms, it is kept,
    and a shortage of cores only said. ``None``: there is one thread only, or an accelerator does
    the work.
    """
    threads, _ = start_threads(env)
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    if threads < 2 or device.type != "cpu":
        return None
    name = chosen_by_user(env)
    fixed = f"{name} is set" if name else ""
    if not fixed and torch.are_deterministic_algorithms_enabled():
        fixed = "deterministic algorithms are asked for"
    return ThreadWatch(threads, fixed=fixed)
