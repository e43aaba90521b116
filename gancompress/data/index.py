"""What was found in a large source, kept for the next time it is opened.

The cache lies in the user's cache folder (``GANCOMPRESS_CACHE`` or ``XDG_CACHE_HOME`` choose
another). It only saves time: without it, or when it is damaged or cannot be written, headers are
read again. An entry holds for a file of the same name, size and time of change.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from gancompress.storage import user_cache

SCHEMA = 1
KEPT = 64
"""Indexes that are kept; the ones longest unused go first."""


class Names(Sequence[str]):
    """A list of strings in two arrays (ours).

    200,000 of them cost a few MB, and forked workers share them: no reference count is written.
    """

    def __init__(self, blob: np.ndarray, ends: np.ndarray) -> None:
        self.blob = blob
        self.ends = ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Pack ``names``."""
        parts = [os.fsencode(name) for name in names]
        ends = np.cumsum([len(p) for p in parts], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        begin = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.blob[begin : int(self.ends[index])].tobytes())

    def same(self, blob: np.ndarray, ends: np.ndarray) -> bool:
        """Return whether the packed arrays of another list are equal."""
        return np.array_equal(self.blob, blob) and np.array_equal(self.ends, ends)


def cache_folder() -> Path | None:
    """Return where indexes are kept (it may not exist), or ``None`` for a user without a home."""
    return user_cache("index")


def load(key: str) -> dict[str, np.ndarray]:
    """Return the arrays stored under ``key``, or none when there are none or they are damaged."""
    path = _path(key)
    if path is None:
        return {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        os.utime(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return {}
    return found


def store(key: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Keep ``arrays`` under ``key``; return whether the cache could be written."""
    path = _path(key)
    if path is None:
        return False
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix="new-")
        with os.fdopen(handle, "wb") as stream:
            stream.write(buffer.getbuffer())
        os.replace(temporary, path)
        _prune(path.parent)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return False
    return True


def _path(key: str) -> Path | None:
    digest = hashlib.sha256(f"{SCHEMA}\0{key}".encode("utf-8", "surrogateescape")).hexdigest()
    folder = cache_folder()
    return None if folder is None else folder / f"{digest[:32]}.npz"


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("*.npz"), key=lambda f: f.stat().st_mtime, reverse=True)
    for file in files[KEPT:]:
        with contextlib.suppress(OSError):
            file.unlink()
