"""Pictures in a zip file: StyleGAN's with ``dataset.json``, or folders that were packed."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancompress.data.classes import Listing, arrange, hidden
from gancompress.data.index import Names
from gancompress.data.picture_set import PictureSet
from gancompress.data.pictures import SUFFIXES
from gancompress.data.stylegan import NO_LABELS, are_shards, label_arguments, labels_of_text
from gancompress.errors import DataError

MAX_MEMBER = 2**28
"""Bytes of one unpacked file: a larger one is no picture."""

_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, TypeError,
    RecursionError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def open_zip(path: Path, classes: Mapping[str, str] | None, **options: Any) -> PictureSet:
    """Return the pictures of a zip file, read from it without unpacking.

    With StyleGAN's ``dataset.json`` its labels are taken (null: none); without, folders are classes
    as they are on disk. A folder that holds everything is looked through.

    Raises:
        DataError: the file is damaged, or its names and labels do not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {i.filename: i for i in archive.infolist() if not i.is_dir()}
            root = _root(infos)
            meta = infos.get(f"{root}dataset.json")
            labels = None if meta is None else labels_of_text(_bytes(archive, meta), str(path))
    except _DAMAGED as error:
        raise DataError(f"cannot read {path}: {error}") from error
    names = [n for n in infos if _is_picture(n)]
    if meta is None:
        if are_shards([n.removeprefix(root) for n in names]):
            store = ZipStore(path, sorted(names), infos)
            return PictureSet(store, notes=[NO_LABELS], **options)
        found = arrange(_listing(path, names, infos, root), classes)
        if not found.files:
            raise DataError(f"{path} holds no picture ({', '.join(SUFFIXES)})")
        store = ZipStore(path, [root + file for file in found.files], infos)
        each = torch.arange(len(found.names))
        given = each.repeat_interleave(torch.tensor(found.counts, dtype=torch.int64))
        return PictureSet(
            store, given if found.names else None, found.names, notes=found.notes, **options
        )
    if not names:
        raise DataError(f"{path} holds no picture ({', '.join(SUFFIXES)})")
    names.sort()
    store = ZipStore(path, names, infos)
    labels = labels and [(root + name, label) for name, label in labels]
    given, named, notes = label_arguments(str(path), names, labels, infos.__contains__, classes)
    return PictureSet(store, given, named, notes=notes, **options)


class ZipStore:
    """Files in a zip archive, which each process opens for itself (ours)."""

    def __init__(
        self, path: Path, files: Sequence[str], infos: Mapping[str, zipfile.ZipInfo]
    ) -> None:
        self.where, self.path = str(path), path
        self.files = Names.of(files)
        changed = path.stat().st_mtime_ns
        self.stamps = np.array([(infos[f].file_size, changed) for f in files], np.int64)
        self.stamps = self.stamps.reshape(-1, 2)
        self._open: tuple[int, zipfile.ZipFile] | None = None

    def name(self, index: int) -> str:
        """Return the archive and the file in it."""
        return f"{self.path}: {self.files[index]}"

    def source(self, index: int) -> bytes:
        """Return the unpacked bytes of the file."""
        try:
            if self._open is None or self._open[0] != os.getpid():
                self._open = (os.getpid(), zipfile.ZipFile(self.path))
            return _bytes(self._open[1], self._open[1].getinfo(self.files[index]))
        except _DAMAGED as error:
            raise DataError(f"{self.name(index)} cannot be read: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


def _bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MAX_MEMBER:
        raise ValueError(f"{info.file_size:,} bytes unpacked, more than {MAX_MEMBER:,}")
    return archive.read(info)


def _is_picture(name: str) -> bool:
    parts = name.split("/")
    return os.path.splitext(name)[1].lower() in SUFFIXES and not any(map(hidden, parts))


def _root(names: Iterable[str]) -> str:
    """Return the folders that everything lies in, so that ``cats/`` packed whole is looked through.

    The one folder right above pictures is kept when it has brothers, which are classes.
    """
    shown = [n.split("/")[:-1] for n in names if not any(map(hidden, n.split("/")))]
    if not shown:
        return ""
    common = os.path.commonprefix([tuple(parts) for parts in shown])
    return "".join(f"{part}/" for part in common)


def _listing(
    path: Path, names: Sequence[str], infos: Mapping[str, zipfile.ZipInfo], root: str
) -> Listing:
    listing = Listing(str(path))
    for name in infos:
        parts = name.removeprefix(root).split("/")
        if name.startswith(root) and len(parts) > 1 and not any(map(hidden, parts)):
            listing.folders.setdefault(parts[0], [])
    for name in names:
        parts = name.removeprefix(root).split("/")
        if len(parts) == 1:
            listing.loose.append(parts[0])
        elif len(parts) == 2:
            listing.folders[parts[0]].append(parts[1])
        else:
            listing.deeper.setdefault(parts[0], "/".join(parts[:-1]))
    listing.loose.sort()
    for files in listing.folders.values():
        files.sort()
    return listing
