"""Where files lie: in folders, or in archives that are read without unpacking them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gancompress.data.classes import Listing, hidden
from gancompress.data.index import Names
from gancompress.data.pictures import Source
from gancompress.errors import DataError

Stamp = tuple[int, int]
"""Bytes and time of change (ns) of a file: an index entry holds as long as both are the same."""


class Store(Protocol):
    """Files by number, read one at a time (ours)."""

    @property
    def where(self) -> str:
        """Its path, for messages and for the key of its index."""
        ...

    @property
    def files(self) -> Names:
        """Names of the files within it, in order."""
        ...

    @property
    def stamps(self) -> np.ndarray:
        """(n, 2) int64: the `Stamp` of each file."""
        ...

    def name(self, index: int) -> str:
        """Return what a message calls the file."""
        ...

    def source(self, index: int) -> Source:
        """Return its path or its bytes.

        Raises:
            DataError: it cannot be read.
        """
        ...


class FolderStore:
    """Files below a folder."""

    def __init__(self, folder: Path, files: Sequence[str], stamps: dict[str, Stamp]) -> None:
        self.where = str(folder)
        self.folder = folder
        self.files = Names.of(files)
        self.stamps = np.array([stamps[f] for f in files], np.int64).reshape(-1, 2)

    def name(self, index: int) -> str:
        """Return the path of the file."""
        return str(self.folder / self.files[index])

    def source(self, index: int) -> Source:
        """Return the path of the file."""
        return self.folder / self.files[index]


def list_folder(
    folder: Path, suffixes: Collection[str], *, read: Collection[str] = ()
) -> tuple[Listing, dict[str, Stamp]]:
    """Return what lies in ``folder`` and right in its folders, and the stamp of each file.

    Only names of ``suffixes`` count as files; those of ``read`` are no surprise (labels beside
    pictures) and are not counted among the others.

    Raises:
        DataError: a folder cannot be read.
    """
    listing, stamps = Listing(str(folder)), {}
    for entry in _entries(folder):
        if entry.is_dir():
            if hidden(entry.name):
                if holds(Path(entry.path), suffixes, depth=1):
                    listing.left_out.append(entry.name)
                continue
            inside: list[str] = []
            for deep in _entries(Path(entry.path)):
                if deep.is_dir():
                    known = entry.name in listing.deeper or hidden(deep.name)
                    if not known and (found := holds(Path(deep.path), suffixes, depth=2)):
                        listing.deeper[entry.name] = os.path.relpath(found, folder)
                elif _counts(deep, suffixes, read, listing):
                    stamps[f"{entry.name}/{deep.name}"] = _stamp(deep)
                    inside.append(deep.name)
            listing.folders[entry.name] = sorted(inside)
        elif _counts(entry, suffixes, read, listing):
            stamps[entry.name] = _stamp(entry)
            listing.loose.append(entry.name)
    listing.loose.sort()
    return listing, stamps


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _counts(
    entry: os.DirEntry[str], suffixes: Collection[str], read: Collection[str], listing: Listing
) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if hidden(entry.name):
        return False
    # A link that leads nowhere is a file that cannot be read, not one that is not there.
    if suffix in suffixes and (entry.is_file() or entry.is_symlink()):
        return True
    if suffix not in read:
        listing.others[suffix] = listing.others.get(suffix, 0) + 1
    return False


def _stamp(entry: os.DirEntry[str]) -> Stamp:
    try:
        found = entry.stat()
    except OSError:
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def holds(folder: Path, suffixes: Collection[str], *, depth: int) -> Path | None:
    """Return the first folder below ``folder``, itself included, that holds such a file."""
    try:
        with os.scandir(folder) as entries:
            deeper: list[Path] = []
            for entry in entries:
                if os.path.splitext(entry.name)[1].lower() in suffixes and entry.is_file():
                    return folder
                if entry.is_dir(follow_symlinks=False):
                    deeper.append(Path(entry.path))
    except OSError:
        return None
    if depth:
        for inner in sorted(deeper):
            if found := holds(inner, suffixes, depth=depth - 1):
                return found
    return None
