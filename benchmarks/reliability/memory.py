"""B9: memory that runs out is named as the cause, and leaves nothing half done."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe_of

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


def counting(at: int, make: Callable[[], BaseException], report: Path | None = None) -> None:
    """Let allocation number ``at`` of this process fail, wherever it is."""
    seen = 0

    def wrapped(function: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if report is not None:
                report.write_text(str(seen))
            if seen == at:
                raise make()
            return function(*args, **kwargs)

        return counted

    for home, name in PLACES:
        setattr(home, name, wrapped(getattr(home, name)))


def prepare(folder: Path) -> Trial:
    """Count the allocations of a run; in each trial one of them fails."""
    recipe = recipe_of("prune", sample_every=forked.EVERY, checkpoint_every=2)
    want, _, _ = forked.whole(recipe, folder / "whole")
    count, out = folder / "count", folder / "out"
    forked.ended(forked.start(recipe, out, lambda: counting(0, MemoryError, count)))
    total = int(count.read_text())

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        at, make = rng.randint(1, total), ERRORS[number % len(ERRORS)]
        code = forked.ended(forked.start(recipe, out, lambda: counting(at, make)))
        said = Path(f"{out}.said").read_text()
        if code not in (0, 5) or (code == 5 and "out of memory" not in said):
            raise BrokenPromiseError(f"at allocation {at} of {total}: exit code {code}, {said}")
        forked.finish(recipe, out, want)
        return "exit 5 with advice, resumed" if code else "went on"

    return trial


ROW = Row(
    "B9",
    "Memory that runs out at a random allocation ends a run with exit code 5 and advice, never "
    "half updated: it goes on to the result of the unbroken run",
    50,
    prepare,
    sample=2,
    forks=True,
)
