"""B9: memory that runs out costs parts of a batch, or ends a run with advice; nothing half done."""

from __future__ import annotations

import json
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe_of
from gancompress.training.run_files import EVENTS
from gancompress.training.steps import Steps

ERRORS: tuple[Callable[[], BaseException], ...] = (
    MemoryError,
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    ),
    lambda: RuntimeError("std::bad_alloc"),
)
PLACES = ((F, "conv2d"), (F, "linear"), (F, "batch_norm"), (torch.Tensor, "backward"),
          (torch.optim.Adam, "step"), (torch, "cat"), (torch, "randn"))  # fmt: skip
HOW = ("once", "once", "from then on", "by ulimit")
Divided = tuple[tuple[int, int], ...]
"""(step, parts) of each time that a run went back and made its parts smaller."""


def counting(
    at: int, make: Callable[[], BaseException], report: Path | None = None, times: int = 1
) -> None:
    """Let allocations ``at`` to ``at + times`` of this process fail, wherever they are."""
    seen = 0

    def wrapped(function: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if report is not None:
                report.write_text(str(seen))
            if at <= seen < at + times:
                raise make()
            return function(*args, **kwargs)

        return counted

    for home, name in PLACES:
        setattr(home, name, wrapped(getattr(home, name)))


def limited(more: int) -> None:
    """Let this process have ``more`` bytes of addresses than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def dividing(turns: Divided) -> None:
    """Let memory run out at the very start of a step, before anything is done, at ``turns``."""
    left, update = list(turns), Steps.update

    def entered(self: Steps, state: Any, figures: Any) -> bool:
        if left and state.step == left[0][0]:
            del left[0]
            raise MemoryError
        return update(self, state, figures)

    Steps.update = entered  # type: ignore[method-assign]


def turns_of(run: Path) -> Divided:
    """Return where a run made its parts smaller."""
    lines = map(json.loads, (run / EVENTS).read_text().splitlines())
    return tuple((e["step"], e["accumulate"]) for e in lines if e["event"] == "memory")


def prepare(folder: Path) -> Trial:
    """Count the allocations of a run; in each trial one of them fails, or all from one on."""
    recipe = recipe_of("prune", sample_every=forked.EVERY, checkpoint_every=2)
    wanted: dict[Divided, str] = {(): forked.whole(recipe, folder / "whole")[0]}
    count, out = folder / "count", folder / "out"
    forked.ended(forked.start(recipe, out, lambda: counting(0, MemoryError, count)))
    total = int(count.read_text())

    def want(turns: Divided) -> str:
        """The end of a run in which memory ran out where nothing of the step had been done."""
        if turns not in wanted:
            clean = folder / "clean"
            shutil.rmtree(clean, ignore_errors=True)
            code = forked.ended(forked.start(recipe, clean, lambda: dividing(turns)))
            if code or turns_of(clean) != turns:
                raise BrokenPromiseError(f"lacking memory at {turns}: exit code {code}")
            wanted[turns] = forked.digest(clean)
        return wanted[turns]

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        at, make = rng.randint(1, total), ERRORS[number % len(ERRORS)]
        how = HOW[number // len(ERRORS) % len(HOW)]
        times = 10**9 if how == "from then on" else 1
        room = rng.randrange(2**20, 2**26)

        def before() -> None:
            limited(room) if how == "by ulimit" else counting(at, make, times=times)

        code = forked.ended(forked.start(recipe, out, before))
        said = Path(f"{out}.said").read_text() if Path(f"{out}.said").exists() else ""
        where = f"ulimit of {room} more" if how == "by ulimit" else f"{how}, at {at} of {total}"
        if code not in (0, 5) or (code == 5 and "out of memory" not in said):
            raise BrokenPromiseError(f"{where}: exit code {code}, {said}")
        turns = turns_of(out) if code == 0 else ()
        if code == 0:
            forked.finish(recipe, out, want(turns))
            return f"{how}, {'in smaller parts' if turns else 'went on'}"
        forked.finish(recipe, out, want(())) if how != "by ulimit" else _goes_on(recipe, out)
        return f"{how}, exit 5 with advice, resumed"

    return trial


def _goes_on(recipe: Any, out: Path) -> None:
    """A run that a limit stopped, perhaps in parts already, ends well without it."""
    if code := forked.ended(forked.start(recipe, out)):
        said = Path(f"{out}.said").read_text()
        raise BrokenPromiseError(f"it cannot be resumed: exit code {code}, {said}")


ROW = Row(
    "B9",
    "When memory runs out at a random allocation, once, from then on or by ulimit, the run goes on "
    "in smaller parts of the same batch, as if nothing of the step had been done, or ends with "
    "exit code 5 and advice, and can be resumed to the unbroken run's result",
    50,
    prepare,
    sample=4,
    forks=True,
)
