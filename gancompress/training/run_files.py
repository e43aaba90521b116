"""Names of everything in a run folder, in one place; nothing heavy is imported here."""

from __future__ import annotations

import re
from pathlib import Path

CONFIG = "config.yaml"  # the resolved recipe
SUBJECT = "subject.json"  # what is compressed, how its inputs are drawn, how the run was asked for
DATA = "data.json"  # how many samples, their size and classes, how the files were read
SEARCH = "search.json"  # what a score said of narrower networks, before the first step
PREDICTION = "prediction.json"  # size and time that the target leads to, before the first step
COMMAND = "command.txt"
ENVIRONMENT = "env.json"
MANIFEST = "manifest.json"  # SHA-256 of what a resume reads; models and checkpoints have their own
LOCK = "lock"
LOG = "log.txt"
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
SUMMARY = "summary.json"
REPORT = "report.html"
BEFORE_AFTER = "before_after.png"
BEFORE, AFTER = "teacher.png", "student.png"  # of the same inputs, for a slider
SAMPLE_GRID = "samples.png"
SOUNDS = "sounds"
SOUND_SHEET = "sounds.png"  # in that folder
WORST = "worst.png"
CHECKPOINTS = "ckpt"
SAMPLES = "samples"
MODEL = "model"
PLOTS = "plots"
STATE = "state.json"  # in a checkpoint: everything but tensors

SET_UP = frozenset(
    {CONFIG, SUBJECT, DATA, SEARCH, PREDICTION, COMMAND, ENVIRONMENT, MANIFEST, LOCK, LOG, EVENTS}
)
"""What a run may leave that was stopped before its first step."""

_RUN = re.compile(r"(\d+)-")
_STEP = re.compile(r"step_(\d+)")


def run_number(path: Path) -> int | None:
    """Return the number of a run folder ``0007-<label>``, ``None`` for other names."""
    match = _RUN.match(path.name)
    return int(match[1]) if match else None


def numbered_runs(root: Path) -> list[Path]:
    """Return the run folders in ``root`` by their numbers, the oldest first."""
    found = [p for p in root.iterdir() if run_number(p) is not None] if root.is_dir() else []
    return sorted(found, key=lambda p: (run_number(p) or 0, p.name))


def checkpoint_step(path: Path) -> int | None:
    """Return the step of a checkpoint folder ``step_000500``, ``None`` for other names."""
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def is_trained(run: Path) -> bool:
    """Return whether the folder ``run`` holds the work of at least one step."""
    saved = run / CHECKPOINTS
    metrics = run / METRICS
    return (
        (run / MODEL).exists()
        or (run / SUMMARY).exists()
        or (metrics.is_file() and metrics.stat().st_size > 0)
        or (saved.is_dir() and any(checkpoint_step(p) is not None for p in saved.iterdir()))
    )


def is_unstarted(run: Path) -> bool:
    """Return whether ``run`` is empty, or a run of ours that was stopped before its first step."""
    if not run.is_dir() or is_trained(run):
        return False
    names = {p.name for p in run.iterdir()}
    drafts = {n for n in names if n.startswith(".") and n.endswith(".tmp")}
    empty = {n for n in (CHECKPOINTS, SAMPLES, METRICS) if n in names}
    left = names - drafts - empty
    return not left or (left <= SET_UP and bool(left & {SUBJECT, MANIFEST, LOCK, ENVIRONMENT}))
