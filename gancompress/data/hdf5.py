"""Images in HDF5, as BigGAN's ``ILSVRC128.hdf5`` holds them: ``imgs`` and ``labels``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gancompress.data.arrays import ArrayDataset
from gancompress.data.layouts import (
    Permuted,
    bytes_of,
    keys_of,
    labels_of,
    layout_of,
    named,
)
from gancompress.data.ranges import Range, range_of, span, tensor_of
from gancompress.errors import DataError
from gancompress.extras import require

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
MAX_CHUNK = 2**28
"""Bytes of a chunk: one row cannot be read without its chunk; and of a row."""
MAX_LABELS = 2**28
"""Bytes of the labels, which are read as a whole: those of 33 million images."""


def open_hdf5(
    path: Path,
    *,
    values: Range | None = None,
    layout: str | None = None,
    classes: Mapping[str, str] | None = None,
) -> ArrayDataset:
    """Return images that are read row by row, and labels in memory, of an HDF5 file.

    Images are called ``imgs``, ``images``, ``x`` or ``data``; labels ``labels``, ``label``, ``y``.

    Raises:
        DataError: the file is damaged, has none of these, or leads to other files.
        ConfigError: h5py is not installed.
    """
    h5py = require("h5py", "data")
    try:
        with h5py.File(path, "r") as file:
            arrays = [n for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)]
            found = {n: file[n] for n in arrays if isinstance(file[n], h5py.Dataset)}
            x_key, y_key = keys_of(found, str(path), None)
            for key in (x_key, y_key):
                if key is not None:
                    _check(found[key], f"{path}: {key}")
            y = None if y_key is None else found[y_key][()]
            x = found[x_key]
            shape, dtype = tuple(x.shape), x.dtype
            few = max(1, min(16, MAX_CHUNK // max(1, bytes_of(shape[1:], dtype))))
            seen = span(x[:few]) if len(shape) in (3, 4) else ""
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    where = f"{path}: {x_key}"
    kind = layout_of(shape, layout, where)
    labels = None if y is None else labels_of(np.asarray(y), f"{path}: {y_key}")
    if dtype.kind not in "buif":
        raise DataError(f"{where} must be numbers; found {dtype}")
    range_of(tensor_of(np.zeros(0, dtype)).dtype, values, where, seen)
    note = f"{path.name}: images {x_key} {shape} {dtype}, read by row, labels {y_key or 'none'}"
    rows = Permuted(HDF5Rows(path, x_key, shape, dtype), kind)
    options = named(labels, classes, str(path))
    return ArrayDataset(rows, labels, values=values, notes=[note], **options)  # type: ignore[arg-type]


class HDF5Rows:
    """Rows of a data set in an HDF5 file, which each process opens for itself (ours)."""

    def __init__(self, path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.key, self.shape, self.dtype = path, key, shape, dtype
        self._open: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        # HDF5 wants rising indices without repetition.
        picked, back = np.unique(np.asarray(rows), return_inverse=True)
        if len(picked) and not 0 <= picked[0] <= picked[-1] < len(self):
            raise IndexError(f"rows outside 0..{len(self) - 1}")
        try:
            return self._array()[picked][back.reshape(-1)]
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise DataError(f"cannot read {self.path}: {error}") from error

    def _array(self) -> Any:
        # A handle that crossed a fork shares its file position with the parent's.
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), require("h5py", "data").File(self.path, "r"))
        return self._open[1][self.key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


def _check(array: Any, where: str) -> None:
    if array.external is not None or array.is_virtual:
        raise DataError(f"{where} lies in other files, which are not opened")
    chunk = bytes_of(array.chunks or (), array.dtype)
    if array.chunks and chunk > MAX_CHUNK:
        raise DataError(
            f"{where} is stored in chunks of {chunk:,} bytes; a row cannot be read alone"
        )
    if array.ndim <= 2 and (size := bytes_of(array.shape, array.dtype)) > MAX_LABELS:
        raise DataError(f"{where} takes {size:,} bytes; labels are one number an image")
    if array.ndim > 2 and (row := bytes_of(array.shape[1:], array.dtype)) > MAX_CHUNK:
        raise DataError(f"{where} has rows of {row:,} bytes; an image has {MAX_CHUNK:,} at most")
