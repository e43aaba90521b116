"""``mel=npy(DIR)``: one array a file, or the rows of one ``.npy``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Stored
from gancompress.data.npz import DAMAGED, npy_header
from gancompress.errors import ConfigError, DataError


class StoredArrays:
    """Arrays of one shape and type, mapped from their files, read when they are asked for.

    Floats come as float32, whole numbers as int64.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            try:
                files = sorted(path.rglob("*.npy"))
            except (OSError, ValueError) as error:
                raise DataError(f"cannot look through {path}: {error}") from error
            if not files:
                raise DataError(f"{path} holds no .npy file")
            self._rows: list[np.ndarray] | np.ndarray = [_opened(file) for file in files]
            self.names = [str(file.relative_to(path).with_suffix("")) for file in files]
            first = self._rows[0]
            for file, array in zip(files, self._rows, strict=True):
                if array.shape != first.shape or array.dtype.kind != first.dtype.kind:
                    raise DataError(
                        f"{file} is {array.dtype} {array.shape}, {files[0]} is {first.dtype} "
                        f"{first.shape}: a batch needs arrays of one shape and type. Crop them"
                    )
            self.shape = tuple(first.shape)
        else:
            self._rows = _opened(path)
            if self._rows.ndim < 1 or not len(self._rows):
                raise DataError(f"{path} has shape {self._rows.shape}: no rows to draw from")
            self.names = [str(i) for i in range(len(self._rows))]
            self.shape = tuple(self._rows.shape[1:])

    def read(self, indices: Tensor) -> Tensor:
        """Return the arrays at ``indices``."""
        found = np.stack([np.asarray(self._rows[int(i)]) for i in indices])
        kind = np.int64 if found.dtype.kind in "iu" else np.float32
        return torch.from_numpy(np.ascontiguousarray(found, dtype=kind))


def _opened(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as stream:
            npy_header(stream)
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        kind = getattr(array, "dtype", type(array).__name__)
        raise DataError(f"{file} holds {kind}; expected numbers in one array")
    return array


@INPUT_KINDS.register("npy")
def npy(text: str) -> Stored:
    """Return the arrays of a folder of ``.npy`` files, or the rows of one file.

    Raises:
        ConfigError: nothing is named.
        DataError: there is no such thing, or shapes or types differ; the files are named.
    """
    path = Path(text.strip())
    if not text.strip():
        raise ConfigError("npy takes a folder or a file: npy(mels)")
    if not path.exists():
        raise DataError(f"no arrays at {str(path)!r}")
    return StoredArrays(path)
