"""B3: a file made to do harm is refused by name, runs nothing, and takes little memory and time."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.reliability import hostile_data, hostile_records, hostile_weights
from benchmarks.reliability.confined import confined
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from benchmarks.reliability.toys import recipe, run_folder

MEMORY = 2**31
"""Bytes that a file may take: twice 1 GiB, which the largest picture that is read needs."""
SECONDS = 5
STRIDE = 257

DOORS: dict[str, Any] = {
    **hostile_records.DOORS,
    "weights": hostile_weights.open_weights,
    "biggan": hostile_weights.open_biggan,
    "npy": lambda folder: hostile_data.opened(folder / "d.npy"),
    "npz": lambda folder: hostile_data.opened(folder / "d.npz"),
    "zip": lambda folder: hostile_data.opened(folder / "d.zip"),
    "tar": lambda folder: hostile_data.opened(folder / "d.tar"),
    "h5": lambda folder: hostile_data.opened(folder / "d.h5"),
    "pictures": lambda folder: hostile_data.opened(folder / "pictures"),
    "sound": lambda folder: hostile_data.sounds(folder / "pictures"),
    "input npy": lambda folder: hostile_data.input_of(f"x=npy({folder / 'd.npy'})"),
    "input wav": lambda folder: hostile_data.input_of(f"x=wav({folder / 'pictures'})"),
    "input images": lambda folder: hostile_data.input_of(f"x=images({folder / 'pictures'})"),
}


def prepare(folder: Path) -> Trial:
    """Import what the doors need, so that a child pays for its file alone."""
    import h5py
    import jinja2
    import matplotlib.figure
    import PIL.Image
    import soundfile

    del h5py, jinja2, matplotlib, soundfile
    PIL.Image.init()
    os.environ["GANCOMPRESS_CACHE"] = str(folder / "cache")
    os.environ["MPLCONFIGDIR"] = str(folder / "cache")
    # One thread: a child of this process has no others.
    torch.set_num_threads(1)
    whole = run_folder(folder / "whole", recipe())
    cases = [
        *hostile_weights.of_weights(), *hostile_data.of_data(), *hostile_records.of_records(whole)
    ]  # fmt: skip
    place = folder / "place"
    for door in DOORS.values():
        with contextlib.suppress(Exception):
            door(folder)  # imports what it needs, finds nothing

    def trial(rng: random.Random, number: int) -> str:
        # Not in the order of doors: a campaign that is cut short has tried all of them.
        name, door, make = cases[number * STRIDE % len(cases)]
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        make(place)
        found = confined(lambda: _enter(door, place), folder, memory=MEMORY, cpu_s=SECONDS)
        where = f"{door}: {name}"
        if list(folder.rglob(hostile_weights.MARK)) or Path(hostile_weights.MARK).exists():
            raise BrokenPromiseError(f"{where} was executed")
        if found.died:
            raise BrokenPromiseError(f"{where} ended by {found.died} after {found.cpu_s:.1f} s")
        if found.tried:
            raise BrokenPromiseError(f"{where} did {found.tried}")
        if found.error and not found.typed:
            raise BrokenPromiseError(f"{where}: {found.error}: {found.text[:200]}")
        if found.text.startswith("harm: "):
            raise BrokenPromiseError(f"{where}: {found.text}")
        if found.cpu_s > SECONDS or found.mib * 2**20 > MEMORY:
            raise BrokenPromiseError(f"{where} took {found.mib} MiB and {found.cpu_s:.1f} s")
        return f"{door}, {'refused' if found.error else 'harmless'}"

    return trial


def _enter(door: str, place: Path) -> object:
    os.chdir(place)
    return DOORS[door](place)


ROW = Row(
    "B3",
    "A hostile file, at any door, executes nothing, starts nothing, writes nowhere else, takes at "
    "most 2 GiB and 5 CPU seconds, and gets a typed error or does no harm",
    664,
    prepare,
)
