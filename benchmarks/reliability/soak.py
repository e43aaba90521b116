"""B15: a long course of runs, cuts and resumes in one process takes no more memory nor handles."""

from __future__ import annotations

import gc
import os
import random
import shutil
from pathlib import Path

from benchmarks.reliability.confined import resident
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import go, recipe_of

STEPS = 200
SETTLED = 5
"""Trials before memory is compared: caches fill, and libraries are loaded."""
ENOUGH = 2_000
"""Steps from which a slope says something."""


def prepare(folder: Path) -> Trial:
    """Each trial is a run of 200 steps with two live cuts that is stopped and resumed once."""
    recipe = recipe_of(
        "prune", steps=STEPS - 20, finetune_steps=20, log_every=20, checkpoint_every=50
    )
    out = folder / "run"
    first: dict[str, int] = {}

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        go(recipe, out)
        # The last checkpoint is taken away: the run goes on from the one before it.
        for path in sorted((out / "ckpt").glob("step_*"))[1:]:
            shutil.rmtree(path)
        go(recipe, out, resume="auto")
        gc.collect()
        memory, handles = resident(), len(os.listdir("/proc/self/fd"))
        first.setdefault("trial", number)
        steps = (number - first["trial"] - SETTLED) * STEPS
        if steps == 0:
            first.update(memory=memory, handles=handles)
        if steps > 0 and handles > first["handles"]:
            raise BrokenPromiseError(f"{handles - first['handles']} handles more are open")
        if steps >= ENOUGH:
            slope = (memory - first["memory"]) / 2**20 / (steps / 1000)
            if slope > 1.0:
                raise BrokenPromiseError(f"{slope:.2f} MiB more after every 1,000 steps")
            return f"under {max(0.25, -(-slope // 0.25) * 0.25):.2f} MiB in 1,000 steps"
        return "before a slope can be told"

    return trial


ROW = Row(
    "B15",
    "Over 10,000 steps with 100 cuts and 50 resumes in one process, memory grows by less than "
    "1 MiB in 1,000 steps and no handle stays open (each trial: 200 steps, two cuts, a resume)",
    50,
    prepare,
    sample=0,
)
