"""Images in numpy's files: ``.npz`` in memory, ``.npy`` mapped from the disk."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy_format

from gancompress.data.arrays import ArrayDataset
from gancompress.data.layouts import (
    Permuted,
    bytes_of,
    check_memory,
    keys_of,
    labels_of,
    layout_of,
    named,
)
from gancompress.data.ranges import Range, range_of, span, tensor_of
from gancompress.errors import DataError

MAX_HEADER = 2**16
"""Bytes of the header of an array, which holds a type and a shape."""

DAMAGED = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError, TypeError,
    OverflowError, SyntaxError, RecursionError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def open_npz(
    path: Path,
    *,
    values: Range | None = None,
    layout: str | None = None,
    classes: Mapping[str, str] | None = None,
    split: str | None = None,
) -> ArrayDataset:
    """Return the images ``x`` and labels ``y`` of an ``.npz`` file, in memory.

    Other usual names do as well (docs/data.md). Images are (n, h, w), (n, h, w, c) or
    (n, c, h, w) with 1 to 32 channels; labels are integers (n,), optional. Nothing pickled is
    read, and sizes are checked before memory is taken.

    Raises:
        DataError: the file is damaged, or holds other shapes or types.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            x_key, y_key = keys_of(names, str(path), split)
            x = _member(archive, x_key, path)
            y = None if y_key is None else _member(archive, y_key, path)
    except DAMAGED as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if x.dtype.kind not in "buif":
        raise DataError(f"{path}: {x_key} must be numbers; found {x.dtype}")
    where = f"{path}: {x_key}"
    kind = layout_of(x.shape, layout, where)
    labels = None if y is None else labels_of(y, f"{path}: {y_key}")
    # Read just now, so the tensor may have it: a copy would take the memory twice.
    images = torch.from_numpy(np.ascontiguousarray(x, x.dtype.newbyteorder("=")))
    range_of(images.dtype, values, where, span(x))
    images = images[:, None] if kind == "nhw" else images
    if kind == "nhwc":
        images = images.movedim(3, 1)
    notes = [f"{path.name}: images {x_key} {x.shape} {x.dtype}, labels {y_key or 'none'}"]
    names_of = named(labels, classes, str(path))
    return ArrayDataset(images, labels, values=values, notes=notes, **names_of)  # type: ignore[arg-type]


def read_npz(path: Path) -> ArrayDataset:
    """Return the images and labels of an ``.npz`` file, see `open_npz`."""
    return open_npz(Path(path))


def open_npy(
    path: Path,
    *,
    values: Range | None = None,
    layout: str | None = None,
    classes: Mapping[str, str] | None = None,
) -> ArrayDataset:
    """Return the images of an ``.npy`` file, mapped: a batch reads its own rows and no others.

    Raises:
        DataError: the file is damaged or shorter than it says, or holds other shapes or types.
    """
    rows = MappedRows(path)
    kind = layout_of(rows.shape, layout, str(path))
    if classes is not None:
        named(None, classes, str(path))
    if rows.dtype.kind not in "buif" or 0 in rows.shape:
        raise DataError(
            f"{path} must hold numbers, one image a row; found {rows.shape} {rows.dtype}"
        )
    dtype = tensor_of(np.zeros(0, rows.dtype)).dtype
    range_of(dtype, values, str(path), span(rows[:16]))
    note = f"{path.name}: images {rows.shape} {rows.dtype}, mapped from the file, no labels"
    return ArrayDataset(Permuted(rows, kind), values=values, notes=[note])  # type: ignore[arg-type]


class MappedRows:
    """The rows of an ``.npy`` file, mapped anew in each process (ours)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                shape, _, dtype = npy_header(stream)
                need, have = stream.tell() + bytes_of(shape, dtype), os.path.getsize(path)
        except DAMAGED as error:
            raise DataError(f"cannot read {path}: {error}") from error
        if need > have:
            raise DataError(f"{path} declares {need:,} bytes and has {have:,}: truncated?")
        self.shape, self.dtype = shape, dtype
        self._map: Any = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if self._map is None:
            self._map = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return np.asarray(self._map[rows])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def _member(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    """Return one array whose header fits the size of its member and the memory."""
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as stream:
        shape, _, dtype = npy_header(stream)
        need = bytes_of(shape, dtype)
        if need > info.file_size:
            raise DataError(
                f"{path}: {key} declares {shape} {dtype}, {need:,} bytes, and has "
                f"{info.file_size:,}: damaged"
            )
        check_memory(need, f"{path}: {key}")
    with archive.open(info) as stream:
        return npy_format.read_array(stream, allow_pickle=False)


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and type of an ``.npy`` file; the stream is then at its numbers.

    Raises:
        ValueError: it is no such file, holds Python objects, or claims what cannot be.
    """
    start = stream.read(12)
    # Of version 2 on, its length has four bytes, and numpy would take memory for all of it.
    if len(start) == 12 and start[6] > 1 and int.from_bytes(start[8:12], "little") > MAX_HEADER:
        raise ValueError("its header is too long")
    stream.seek(0)
    version = npy_format.read_magic(stream)
    read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"a header of version {version}")
    shape, fortran, dtype = read[version](stream)
    if any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"a negative size in {shape}")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read")
    return shape, fortran, dtype
