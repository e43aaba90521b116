"""B14: a damaged sample is named before step 0, or skipped and counted; nothing else is read."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from gancompress.data.folders import open_images
from gancompress.data.sound import open_sound
from gancompress.errors import DataError

FORMATS = ("png", "jpg", "webp", "bmp", "ppm", "tif", "gif", "npy", "npz", "wav", "flac")
DAMAGES = ("truncated", "emptied", "zeroed", "flipped", "another kind")
PIECE = 64


def sample(kind: str, rng: random.Random) -> bytes:
    """Return one good file of 16 x 16 pixels, or of 256 samples of sound."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    out = io.BytesIO()
    if kind in ("wav", "flac"):
        import soundfile

        sound = numbers.uniform(-0.5, 0.5, 256)
        soundfile.write(out, sound, 8000, format=kind.upper(), subtype="PCM_16")
    elif kind == "npy":
        np.save(out, numbers.integers(0, 255, (4, 3, 16, 16), np.uint8))
    elif kind == "npz":
        np.savez_compressed(out, x=numbers.integers(0, 255, (4, 3, 16, 16), np.uint8))
    else:
        name = {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper())
        options = {"lossless": True} if kind == "webp" else {}
        picture = Image.fromarray(numbers.integers(0, 255, (16, 16, 3), np.uint8))
        picture.save(out, name, **options)
    return out.getvalue()


def prepare(folder: Path) -> Trial:
    """Each trial damages one of four files of a set, and opens the set."""
    place = folder / "data"

    def trial(rng: random.Random, number: int) -> str:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        kind = FORMATS[number % len(FORMATS)]
        damage = DAMAGES[number // len(FORMATS) % len(DAMAGES)]
        single = kind in ("npy", "npz")
        files = [place / f"{i}.{kind}" for i in range(1 if single else 4)]
        for file in files:
            file.write_bytes(sample(kind, rng))
        bad = rng.choice(files)
        _damage(bad, damage, kind, rng)
        try:
            found = _read(files[0] if single else place, kind, "error")
        except DataError as error:
            if bad.name not in str(error):
                raise BrokenPromiseError(f"{kind}, {damage}: not named: {error}") from error
            return f"{kind}, {damage}: named{_skipped(place, kind, bad)}"
        if damage in ("truncated", "emptied", "another kind") and not _whole(bad, kind):
            raise BrokenPromiseError(f"{kind}, {damage}: {found} samples were read")
        return f"{kind}, {damage}: read as it is"

    return trial


def _read(path: Path, kind: str, on_bad: str) -> int:
    """Open a set and read all of it, as a run would."""
    if kind in ("wav", "flac"):
        found = open_sound(path, length=PIECE, on_bad_sample=on_bad)
    else:
        found = open_images(path, on_bad_sample=on_bad)
    for i in range(0, len(found), 4):
        values = found.batch(torch.arange(i, min(i + 4, len(found))))[0]
        if not torch.isfinite(values).all() or float(values.abs().max()) > 1:
            raise BrokenPromiseError(f"{kind}: values outside [-1, 1] were read")
    return len(found)


def _skipped(place: Path, kind: str, bad: Path) -> str:
    """Where files can be skipped, the others are read; a body that is damaged is found later."""
    if kind in ("npy", "npz"):
        return ""
    try:
        return f", skipped ({_read(place, kind, 'skip')} left)"
    except DataError as error:
        if bad.name not in str(error):
            raise BrokenPromiseError(f"{kind}: not named when skipping: {error}") from error
        return ", named when it is read"


def _damage(file: Path, damage: str, kind: str, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if damage == "truncated":
        del data[rng.randrange(1, len(data) - 1) :]
    elif damage == "emptied":
        data.clear()
    elif damage == "zeroed":
        start = rng.randrange(len(data))
        data[start : start + 64] = bytes(len(data[start : start + 64]))
    elif damage == "flipped":
        for _ in range(3):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        data[:] = b"<html>not found</html>" * 20
    file.write_bytes(data)


def _whole(file: Path, kind: str) -> bool:
    """Return whether what is left still has every number: only padding was cut off."""
    if kind in ("wav", "flac"):
        # Of a recording that ends early the pieces before are as they were.
        return True
    try:
        with Image.open(file) as picture:
            picture.load()
        return True
    except Exception:
        return False


ROW = Row(
    "B14",
    "A damaged picture, array or sound is named, or skipped and counted; a truncated one is never "
    "read, and no value outside [-1, 1] comes of any",
    500,
    prepare,
    sample=55,
)
