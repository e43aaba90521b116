"""B2: whatever happens to a file that is read later, loading refuses it and verify names it."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import gancompress as gc
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import digest_of, recipe, run_folder
from gancompress.commands.verify import check_integrity
from gancompress.errors import CheckpointError
from gancompress.training.checkpoint import checkpoints, latest_checkpoint, load_checkpoint
from gancompress.training.run_files import CONFIG, ENVIRONMENT, MANIFEST, MODEL, SUBJECT, SUMMARY
from gancompress.training.run_folder import check_start
from tests.training.nets import TinyGenerator

IN_PLACE = ("flip", "flips", "truncated", "zeroed", "grown", "emptied", "swapped", "edited")
PLACE = ("removed", "renamed", "link", "dangling", "folder", "fifo", "device")
FOLDER = ("added", "gone", "moved")


def prepare(folder: Path) -> Trial:
    """Make one run with two checkpoints and a model; each trial damages a copy of it."""
    whole = run_folder(folder / "whole", recipe(checkpoint_every=6))
    first, newest = checkpoints(whole / "ckpt")
    good = digest_of(gc.load(TinyGenerator, whole / MODEL))
    check_integrity(whole, json=True)
    run = folder / "run"

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run, symlinks=True)
        area = ("checkpoint", "model", "run")[number % 3]
        place = {
            "checkpoint": run / "ckpt" / newest.name,
            "model": run / MODEL,
            "run": run,
        }[area]
        kind = _damage(place, area, rng)
        if area == "checkpoint":
            _checkpoint_is_refused(run, place, first.name, kind)
        elif area == "model":
            _model_is_refused_or_whole(place, kind, good)
        elif kind.partition(" ")[2] != SUMMARY:
            try:
                check_start(run)
            except CheckpointError:
                pass
            else:
                raise BrokenPromiseError(f"{kind}: a resume would go on")
        try:
            check_integrity(run, json=True)
        except CheckpointError:
            return f"{area}, {kind.split()[0]}"
        raise BrokenPromiseError(f"{area}, {kind}: verify says that all is whole")

    return trial


def _checkpoint_is_refused(run: Path, place: Path, earlier: str, kind: str) -> None:
    word = kind.split()[0]
    if word not in ("gone", "moved"):
        try:
            load_checkpoint(place)
        except CheckpointError:
            pass
        else:
            raise BrokenPromiseError(f"{kind}: the checkpoint is loaded")
    found, complaints = latest_checkpoint(run / "ckpt")
    if found is None or found.path.name != earlier:
        raise BrokenPromiseError(f"{kind}: no fallback to {earlier}")
    if word != "gone" and not complaints:
        raise BrokenPromiseError(f"{kind}: the fallback is not told")


def _model_is_refused_or_whole(place: Path, kind: str, good: str) -> None:
    try:
        back = gc.load(TinyGenerator, place)
    except CheckpointError:
        return
    # A link to the same bytes and a file that nobody reads change nothing that is loaded.
    if kind.split()[0] not in ("link", "added"):
        raise BrokenPromiseError(f"{kind}: the model is loaded")
    if digest_of(back) != good:
        raise BrokenPromiseError(f"{kind}: another model is loaded")


def _damage(place: Path, area: str, rng: random.Random) -> str:
    """Damage one thing in ``place`` and return what was done to which file."""
    names = {"run": (CONFIG, SUBJECT, MANIFEST, ENVIRONMENT, SUMMARY)}.get(area)
    files = sorted(place.iterdir()) if names is None else [place / n for n in names]
    kinds = IN_PLACE + PLACE + (FOLDER if area == "checkpoint" else FOLDER[:1])
    while True:
        kind, file = rng.choice(kinds), rng.choice(files)
        if area == "run" and kind in ("link", "added"):
            continue  # a link to the same recipe is the same recipe; a run's folder goes on growing
        if kind in FOLDER:
            return _to_folder(place, kind, rng)
        if kind in PLACE:
            _in_place_of(file, kind)
            return f"{kind} {file.name}"
        if _to_bytes(file, kind, files, rng):
            return f"{kind} {file.name}"


def _to_folder(place: Path, kind: str, rng: random.Random) -> str:
    if kind == "added":
        (place / rng.choice(("extra.pkl", "optim-x.safetensors", "b.json"))).write_bytes(b"1")
    elif kind == "gone":
        # All but a trace of it: what a copy that was stopped leaves.
        for file in sorted(place.iterdir())[1:]:
            file.unlink()
        return "truncated folder"
    else:
        place.rename(place.with_name("step_000999"))
        return "moved folder"
    return "added file"


def _in_place_of(file: Path, kind: str) -> None:
    if kind == "renamed":
        file.rename(file.with_name(f"{file.stem}-old{file.suffix}"))
        return
    aside = file.parent.parent / f"aside-{file.name}"
    file.rename(aside)
    if kind == "link":
        file.symlink_to(aside)
    elif kind == "dangling":
        aside.unlink()
        file.symlink_to(aside)
    elif kind == "folder":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")


def _to_bytes(file: Path, kind: str, files: list[Path], rng: random.Random) -> bool:
    """Change the bytes of ``file``; return whether they are others now."""
    old = file.read_bytes()
    new = bytearray(old)
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else 9):
            new[rng.randrange(len(new))] ^= 1 << rng.randrange(8)
    elif kind == "truncated":
        del new[rng.randrange(len(new)) :]
    elif kind == "zeroed":
        start = rng.randrange(len(new))
        new[start : start + 512] = bytes(len(new[start : start + 512]))
    elif kind == "grown":
        new += bytes(rng.randrange(1, 4096))
    elif kind == "emptied":
        new.clear()
    elif kind == "swapped":
        new[:] = rng.choice(files).read_bytes()
    elif kind == "edited":
        new[:] = _edited(file, old, rng)
    file.write_bytes(new)
    return bytes(new) != old


def _edited(file: Path, old: bytes, rng: random.Random) -> bytes:
    """Return what somebody with an editor makes of a record: still one, and another."""
    if file.suffix == ".yaml":
        lines = old.decode().splitlines(keepends=True)
        del lines[rng.randrange(len(lines))]
        return "".join(lines).encode()
    if file.suffix != ".json":
        return old
    value = json.loads(old)
    home = value
    while isinstance(home, dict) and home:
        key = rng.choice(sorted(home))
        if isinstance(home[key], dict) and home[key] and rng.random() < 0.7:
            home = home[key]
            continue
        if rng.random() < 0.5:
            del home[key]
        else:
            home[key] = rng.choice((0, None, "x", [], {}, 10**9, -1, True))
        break
    return json.dumps(value, indent=rng.choice((1, 2, None))).encode()


ROW = Row(
    "B2",
    "A damaged checkpoint, model or run folder is refused at load, named by verify, and the newest "
    "good checkpoint is used",
    10_000,
    prepare,
)
