"""A folder of ``.npy`` files, one image a file, as data: each folder in it is a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancompress.data.arrays import ArrayDataset
from gancompress.data.classes import arrange
from gancompress.data.layouts import Permuted, layout_of
from gancompress.data.npz import DAMAGED, npy_header
from gancompress.data.ranges import Range, range_of, span, tensor_of
from gancompress.data.stores import list_folder
from gancompress.errors import DataError

SUFFIX = ".npy"


def open_npy_folder(
    folder: Path,
    *,
    values: Range | None = None,
    layout: str | None = None,
    classes: Mapping[str, str] | None = None,
) -> ArrayDataset:
    """Return the arrays of a folder as images (n, c, h, w); a batch reads its own files.

    Raises:
        DataError: a file is damaged, or of another shape or type than the first; it is named.
    """
    listing, _ = list_folder(folder, (SUFFIX,))
    found = arrange(listing, classes)
    if not found.files:
        raise DataError(f"{folder} holds no {SUFFIX} file")
    rows = Files(folder, found.files)
    kind = layout_of(rows.shape, layout, f"each array of {folder}, with their number in front,")
    range_of(
        tensor_of(np.zeros(0, rows.dtype)).dtype, values, f"arrays of {folder}", span(rows[:16])
    )
    each = torch.arange(len(found.names)).repeat_interleave(
        torch.tensor(found.counts, dtype=torch.int64)
    )
    note = f"{len(rows):,} arrays {rows.shape[1:]} {rows.dtype}, one image a file"
    images: Any = Permuted(rows, kind)
    data = ArrayDataset(
        images,
        each if found.names else None,
        values=values,
        class_names=found.names or None,
        notes=[note, *found.notes],
    )
    data.names = found.files
    return data


class Files:
    """Arrays of one shape and type, a file each, as the rows of one array (ours)."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.folder, self.files = folder, list(files)
        kinds = (_header(folder / file) for file in self.files)
        shape, dtype = next(kinds)
        if dtype.kind not in "buif" or 0 in shape:
            raise DataError(
                f"{folder / self.files[0]} must hold the numbers of an image; found {shape} {dtype}"
            )
        for file, kind in zip(self.files[1:], kinds, strict=True):
            if kind != (shape, dtype):
                raise DataError(
                    f"{folder / file} is {kind[0]} {kind[1]}, {folder / self.files[0]} is {shape} "
                    f"{dtype}: arrays must be of one shape and type"
                )
        self.shape, self.dtype = (len(self.files), *shape), dtype

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = np.arange(len(self.files))[rows]
        found = [self._read(int(i)) for i in np.atleast_1d(chosen)]
        return np.stack(found) if np.ndim(chosen) else found[0]

    def _read(self, index: int) -> np.ndarray:
        path = self.folder / self.files[index]
        try:
            return np.load(path, allow_pickle=False)
        except DAMAGED as error:
            raise DataError(f"cannot read {path}: {error}") from error


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        with path.open("rb") as stream:
            shape, _, dtype = npy_header(stream)
    except DAMAGED as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return shape, dtype
