"""B7: a run that is asked to stop does so with a checkpoint, a word, and nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

from benchmarks.reliability import forked
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe_of
from gancompress.training.checkpoint import checkpoints
from gancompress.training.run_files import CHECKPOINTS, METRICS, checkpoint_step

KINDS = ("prune", "distill", "train")
EXPECTED = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


def prepare(folder: Path) -> Trial:
    """Run each kind once undisturbed; each trial sends one signal at a random time."""
    recipes = {kind: recipe_of(kind, sample_every=forked.EVERY) for kind in KINDS}
    found = {kind: forked.whole(recipes[kind], folder / kind) for kind in KINDS}
    out, ready = folder / "out", folder / "ready"

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(out, ignore_errors=True)
        ready.unlink(missing_ok=True)
        kind = KINDS[number % len(KINDS)]
        sent = list(EXPECTED)[number // len(KINDS) % len(EXPECTED)]
        want, lasting, _ = found[kind]
        child = forked.start(recipes[kind], out, ready.touch)
        while not ready.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0.01, lasting))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, sent)
        code = forked.ended(child)
        if code not in (0, EXPECTED[sent]):
            said = Path(f"{out}.said").read_text() if Path(f"{out}.said").exists() else ""
            raise BrokenPromiseError(f"{kind}, {sent.name}: exit code {code} {said}")
        lost = _lost(out)
        if code and lost > 1:
            raise BrokenPromiseError(f"{kind}, {sent.name}: {lost} steps are lost")
        forked.finish(recipes[kind], out, want)
        return f"{sent.name}, {'stopped' if code else 'had ended'}"

    return trial


def _lost(out: Path) -> int:
    """Return how many steps that were made are in no checkpoint."""
    if not (out / METRICS).is_file() or not (lines := (out / METRICS).read_text().splitlines()):
        return 0
    kept = checkpoints(out / CHECKPOINTS)
    return json.loads(lines[-1])["step"] - (checkpoint_step(kept[-1]) if kept else 0)


ROW = Row(
    "B7",
    "SIGINT, SIGTERM or SIGUSR1 at a random time, set-up and closing included, ends a run with 130 "
    "or 75, at most one step is lost, and it goes on to the result of the unbroken run",
    100,
    prepare,
    sample=2,
    forks=True,
)
