"""B1: a run that is killed at any moment goes on, and ends as if it had not been."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe_of

KINDS = ("prune", "distill", "train")


def prepare(folder: Path) -> Trial:
    """Run each kind once undisturbed; each trial is a run that is killed one to three times."""
    recipes = {kind: recipe_of(kind, sample_every=forked.EVERY) for kind in KINDS}
    found = {kind: forked.whole(recipes[kind], folder / kind) for kind in KINDS}
    out = folder / "out"

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        kind = KINDS[number % len(KINDS)]
        want, lasting, operations = found[kind]
        how = "before a file operation" if number // len(KINDS) % 2 else "at a random instant"
        kills = 0
        for _ in range(rng.randint(1, 3)):
            if how == "at a random instant":
                before = forked.killed_after(lasting, rng)
            else:
                at = forked.killing(rng.randint(1, operations))
                before = forked.Operations(at).install
            code = forked.ended(forked.start(recipes[kind], out, before))
            kills += code < 0
            if code > 0:
                said = Path(f"{out}.said").read_text()
                raise BrokenPromiseError(f"{kind}, {how}: exit code {code} after kills: {said}")
        forked.finish(recipes[kind], out, want)
        return f"{kind}, {how}" if kills else f"{kind}, not reached"

    return trial


ROW = Row(
    "B1",
    "Killed at random instants and before file operations, one to three times, set-up and closing "
    "included, a run ends with the model, plan, checkpoints, figures and grids of the unbroken one",
    200,
    prepare,
    sample=2,
    forks=True,
)
