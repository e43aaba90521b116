"""Pictures in tar shards as webdataset writes them: ``0001.jpg`` beside ``0001.cls``.

The list of a shard is read once and kept in the index; a picture is then read at its place, so that
a batch stays a function of its indices, which a stream would not be. Nothing is ever unpacked.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancompress.data import index
from gancompress.data.index import Names
from gancompress.data.picture_set import PictureSet, label_names
from gancompress.data.pictures import SUFFIXES
from gancompress.data.stores import holds
from gancompress.data.survey import CACHE_FROM
from gancompress.data.zips import MAX_MEMBER
from gancompress.errors import ConfigError, DataError
from gancompress.storage import BoundedFile

_BRACES = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", re.DOTALL)
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_SHARDS = 100_000
_LABEL = "cls"


def shards_of(path: str | Path) -> list[Path]:
    """Return the tar files that ``path`` stands for: one, a range in braces, a folder of them.

    Empty when it is something else.

    Raises:
        DataError: a shard of the range is missing, or they are compressed.
        ConfigError: the range is absurd.
    """
    text = str(path)
    if text.lower().endswith(_PACKED):
        raise DataError(
            f"{text!r} is compressed, so that no picture can be read alone. Unpack it to .tar "
            "(gunzip, unxz), or into a folder"
        )
    if (match := _BRACES.fullmatch(text)) and text.endswith(".tar"):
        head, first, last, tail = match.groups()
        if not 0 <= int(last) - int(first) < MAX_SHARDS:
            raise ConfigError(f"{text!r}: the range must rise, {MAX_SHARDS:,} shards at most")
        numbers = range(int(first), int(last) + 1)
        shards = [Path(f"{head}{number:0{len(first)}d}{tail}") for number in numbers]
        missing = [s for s in shards if not s.is_file()]
        if missing:
            raise DataError(f"{len(missing)} of {len(shards)} shards are missing: {missing[0]}")
        return shards
    if text.lower().endswith(".tar") and Path(path).is_file():
        return [Path(path)]
    if Path(path).is_dir():
        shards = sorted(p for p in Path(path).glob("*.tar") if p.is_file())
        # An archive that was unpacked where it lies is no shard: its pictures are there.
        return [] if shards and holds(Path(path), SUFFIXES, depth=1) else shards
    return []


def open_tars(
    shards: Sequence[Path], classes: Mapping[str, str] | None, **options: Any
) -> PictureSet:
    """Return the pictures of tar shards in their order, with the labels of the ``.cls`` files.

    Raises:
        DataError: a shard is corrupt or cut off, a sample has two pictures or no number as label,
            or only some have labels.
    """
    names: list[str] = []
    places: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for number, shard in enumerate(shards):
        found = _listed(shard)
        names += list(Names(found["blob"], found["ends"]))
        places.append(np.insert(found["places"], 0, number, axis=1))
        labels.append(found["labels"])
    if not names:
        raise DataError(f"{shards[0]} holds no picture ({', '.join(SUFFIXES)})")
    each = np.concatenate(labels)
    where = str(shards[0]) if len(shards) == 1 else f"{shards[0]} to {shards[-1].name}"
    store = TarStore(where, shards, names, np.concatenate(places))
    notes = [f"{len(shards)} tar file{'s' if len(shards) > 1 else ''}, read in place"]
    if (each < 0).all():
        if classes is not None:
            raise DataError(f"{where} has no labels (.cls) that the classes could name")
        folders = {name.rpartition("/")[0] for name in names}
        beside = f"; the {len(folders)} folders in it are no classes" if len(folders) > 1 else ""
        return PictureSet(store, notes=[*notes, f"no labels (.cls){beside}"], **options)
    if (each < 0).any():
        first = int(np.argmax(each < 0))
        raise DataError(f"{store.name(first)} has no label (.cls), others have")
    given = torch.from_numpy(each)
    return PictureSet(store, given, label_names(given, classes, where), notes=notes, **options)


class TarStore:
    """Files at known places of tar archives (ours)."""

    def __init__(
        self, where: str, shards: Sequence[Path], files: Sequence[str], places: np.ndarray
    ) -> None:
        self.where, self.shards, self.files = where, list(shards), Names.of(files)
        self.places = places  # (n, 3): shard, offset, bytes
        changed = np.array([s.stat().st_mtime_ns for s in shards], np.int64)
        self.stamps = np.stack([places[:, 2], changed[places[:, 0]]], axis=1)

    def name(self, index: int) -> str:
        """Return the shard and the file in it."""
        return f"{self.shards[int(self.places[index, 0])]}: {self.files[index]}"

    def source(self, index: int) -> bytes:
        """Return the bytes of the file."""
        shard, offset, size = (int(part) for part in self.places[index])
        try:
            with self.shards[shard].open("rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise DataError(f"{self.name(index)} cannot be read: {error}") from error
        if len(data) != size:
            raise DataError(f"{self.name(index)} is cut off: {len(data):,} of {size:,} bytes")
        return data


def _listed(shard: Path) -> dict[str, np.ndarray]:
    try:
        stat = shard.stat()
    except OSError as error:
        raise DataError(f"cannot read {shard}: {error}") from error
    key, stamp = f"tar\0{shard.resolve()}", np.array([stat.st_size, stat.st_mtime_ns], np.int64)
    known = index.load(key)
    wanted = {"blob", "ends", "places", "labels", "stamp"}
    if wanted <= known.keys() and np.array_equal(known["stamp"], stamp):
        return known
    found = _read(shard)
    if len(found["ends"]) >= CACHE_FROM:
        index.store(key, {**found, "stamp": stamp})
    return found


def _read(shard: Path) -> dict[str, np.ndarray]:
    """Return names, places (n, 2) and labels (n,) (-1: none) of the pictures of one shard."""
    pictures: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with (
            shard.open("rb") as stream,
            tarfile.open(fileobj=BoundedFile(stream), mode="r:") as archive,  # type: ignore[arg-type]
        ):
            for member in archive:
                _take(member, archive, pictures, labels, shard)
                archive.members = []  # type: ignore[attr-defined]  # else every header is kept
            end = archive.offset
        _check_end(shard, end)
        classes = np.array([labels.get(key, -1) for key in pictures], np.int64)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise DataError(f"{shard} is corrupt or cut off: {error}") from error
    values = list(pictures.values())
    names = Names.of(v[0] for v in values)
    return {
        "blob": names.blob,
        "ends": names.ends,
        "places": np.array([v[1:] for v in values], np.int64).reshape(-1, 2),
        "labels": classes,
    }


def _take(
    member: tarfile.TarInfo,
    archive: tarfile.TarFile,
    pictures: dict[str, tuple[str, int, int]],
    labels: dict[str, int],
    shard: Path,
) -> None:
    folder, base = os.path.split(member.name)
    if base.startswith(".") or member.isdir():
        return
    stem, _, kind = base.partition(".")
    key, kind = f"{folder}/{stem}", kind.lower()
    if f".{kind.rpartition('.')[2]}" in SUFFIXES:
        if not member.isreg() or member.sparse is not None or member.size > MAX_MEMBER:
            raise DataError(
                f"{shard}: {member.name} is no plain file of at most {MAX_MEMBER:,} bytes"
            )
        if key in pictures:
            raise DataError(
                f"{shard}: two pictures of one sample, {pictures[key][0]} and {member.name}; "
                "write shards with one picture a sample, or open pairs"
            )
        pictures[key] = (member.name, member.offset_data, member.size)
    elif kind == _LABEL:
        plain = member.isreg() and member.size <= 32
        stream = archive.extractfile(member) if plain else None
        text = b"" if stream is None else stream.read()
        if not text.strip().isdigit():
            raise DataError(f"{shard}: {member.name} holds {text[:32]!r}; expected a class number")
        labels[key] = int(text)


def _check_end(shard: Path, end: int) -> None:
    """Raise ValueError unless the list ended where the archive says that it ends.

    The reader takes a damaged header for the end, and the rest of the pictures would be missing.
    """
    with shard.open("rb") as stream:
        stream.seek(end)
        mark = stream.read(tarfile.BLOCKSIZE)
    if mark != tarfile.NUL * tarfile.BLOCKSIZE:
        raise ValueError(f"no end mark at byte {end:,}")
