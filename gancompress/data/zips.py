"""Pictures in a zip file: StyleGAN's with ``dataset.json``, or folders that were packed."""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gancompress.data.classes import Listing, arrange, hidden
from gancompress.data.index import Names
from gancompress.data.picture_set import PictureSet
from gancompress.data.pictures import SUFFIXES
from gancompress.errors import DataError

MAX_MEMBER = 2**28
"""Bytes of one unpacked file: a larger one is no picture."""

_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, TypeError,
    RecursionError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_SHARD = re.compile(r"\d{5}/img\d{8}\.\w+")


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
            labels = None if meta is None else _labels(archive, meta, path)
    except _DAMAGED as error:
        raise DataError(f"cannot read {path}: {error}") from error
    names = [n for n in infos if _is_picture(n)]
    if meta is None:
        if names and all(_SHARD.fullmatch(n.removeprefix(root)) for n in names):
            store = ZipStore(path, sorted(names), infos)
            notes = ["StyleGAN's layout without dataset.json: no labels"]
            return PictureSet(store, notes=notes, **options)
        found = arrange(_listing(path, names, infos, root), classes)
        if not found.files:
            raise DataError(f"{path} holds no picture ({', '.join(SUFFIXES)})")
        store = ZipStore(path, [root + file for file in found.files], infos)
        each = torch.arange(len(found.names))
        given = each.repeat_interleave(torch.tensor(found.counts, dtype=torch.int64))
        return PictureSet(
            store, given if found.names else None, found.names, notes=found.notes, **options
        )
    return _labelled(path, sorted(names), infos, root, labels, classes, options)


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


def _labels(
    archive: zipfile.ZipFile, meta: zipfile.ZipInfo, path: Path
) -> list[tuple[str, int]] | None:
    data = json.loads(_bytes(archive, meta))
    found = data.get("labels") if isinstance(data, dict) else None
    if found is None:
        return None
    pairs: list[tuple[str, int]] = []
    for item in found:
        name, label = item if isinstance(item, list) and len(item) == 2 else (None, None)
        number = _class_number(label)
        if number is not None and abs(number) >= 2**31:
            raise DataError(
                f"{path}: labels must lie in 0..{2**20 - 1:,}; found {str(number)[:24]}"
            )
        if not isinstance(name, str) or number is None:
            raise DataError(
                f"{path}: dataset.json has the label {str(item)[:80]}; expected [file, class]"
            )
        pairs.append((name, number))
    return pairs


def _class_number(label: object) -> int | None:
    """Return a class number, also of a one-hot list; ``None`` for another condition."""
    if isinstance(label, list) and all(isinstance(v, (int, float)) for v in label):
        one_hot = sum(v == 1 for v in label) == 1 and sum(v == 0 for v in label) == len(label) - 1
        return label.index(1) if one_hot else None
    return label if isinstance(label, int) and not isinstance(label, bool) else None


def _labelled(
    path: Path,
    names: list[str],
    infos: Mapping[str, zipfile.ZipInfo],
    root: str,
    labels: list[tuple[str, int]] | None,
    classes: Mapping[str, str] | None,
    options: dict[str, Any],
) -> PictureSet:
    if not names:
        raise DataError(f"{path} holds no picture ({', '.join(SUFFIXES)})")
    store = ZipStore(path, names, infos)
    if labels is None:
        if classes is not None:
            raise DataError(f"{path} has no labels that the classes could name")
        return PictureSet(store, notes=["dataset.json has no labels"], **options)
    given = {root + name: label for name, label in labels}
    missing = [name for name in names if name not in given]
    absent = [name for name in given if name not in infos]
    if missing or absent:
        what = f"no label for {missing[0]}" if missing else f"a label for {absent[0]}, not there"
        raise DataError(
            f"{path}: dataset.json has {what} ({len(missing)} without label, {len(absent)} absent)"
        )
    each = torch.tensor([given[name] for name in names], dtype=torch.int64)
    return PictureSet(
        store,
        each,
        label_names(each, classes, str(path)),
        notes=["labels of dataset.json"],
        **options,
    )


def label_names(labels: Tensor, classes: Mapping[str, str] | None, where: str) -> tuple[str, ...]:
    """Return a name for each label 0 to the largest: those of ``classes``, else the numbers.

    Raises:
        DataError: negative labels, or more of them than names.
    """
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= 2**20:
        raise DataError(f"{where}: labels must lie in 0..{2**20 - 1:,}; found {least}..{most}")
    if classes is None:
        return tuple(map(str, range(most + 1)))
    if most >= len(classes):
        raise DataError(f"{where}: {len(classes)} class names; found the label {most}")
    return tuple(classes.values())
