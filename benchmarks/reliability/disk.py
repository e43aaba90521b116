"""B10: a disk that is full, read-only, broken or gone costs no checkpoint and is told."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe_of
from gancompress.errors import CheckpointError
from gancompress.training.checkpoint import checkpoints, latest_checkpoint


def prepare(folder: Path) -> Trial:
    """Run once undisturbed; in each trial some file operations fail, for a while or for good."""
    recipe = recipe_of("prune", sample_every=forked.EVERY, checkpoint_every=2)
    want, _, operations = forked.whole(recipe, folder / "whole")
    out = folder / "out"

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        code = forked.DISK[number % len(forked.DISK)]
        first = rng.randint(1, operations)
        lasts = rng.choice((0, 3, 40, 10**9))
        fault = forked.failing(first, first + lasts, code)
        ended = forked.ended(
            forked.start(recipe, out, forked.Operations(fault, below=folder).install)
        )
        said = Path(f"{out}.said").read_text()
        how = f"{os.strerror(code)}, {'for good' if lasts > 99 else 'for a while'}"
        if ended not in (0, 6):
            raise BrokenPromiseError(f"{how} at operation {first}: exit code {ended}, {said}")
        if checkpoints(out / "ckpt"):
            try:
                latest_checkpoint(out / "ckpt")
            except CheckpointError as error:
                raise BrokenPromiseError(f"{how} at operation {first}: {error}") from error
        forked.finish(recipe, out, want)
        return f"{how}, {'told' if ended else 'went on'}"

    return trial


ROW = Row(
    "B10",
    "When file operations fail (full, read-only, quota, broken, vanished), no earlier checkpoint "
    "is lost, no run succeeds in silence, the exit code is 6, and it goes on after making room",
    50,
    prepare,
    sample=2,
    forks=True,
)
