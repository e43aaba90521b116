"""B11: the same run, again and again in new processes, ends with the same bits."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe_of

KINDS = ("prune", "distill", "train")


def prepare(folder: Path) -> Trial:
    """Run each kind once; each trial runs it again and compares."""
    recipes = {kind: recipe_of(kind, sample_every=forked.EVERY) for kind in KINDS}
    found = {kind: forked.whole(recipes[kind], folder / kind)[0] for kind in KINDS}
    out = folder / "out"

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        kind = KINDS[number % len(KINDS)]
        code = forked.ended(forked.start(recipes[kind], out))
        if code or forked.digest(out) != found[kind]:
            raise BrokenPromiseError(f"{kind}: exit code {code}, another digest")
        return kind

    return trial


ROW = Row(
    "B11",
    "The same recipe and seed give the same model, checkpoints, figures and grids, bit for bit",
    60,
    prepare,
    sample=1,
    forks=True,
)
