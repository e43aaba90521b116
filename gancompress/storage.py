"""Folders that are whole or absent: files, their hashes in a manifest, one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gancompress.errors import CheckpointError, StorageError

MANIFEST = "manifest.json"


def write_folder(
    final: Path, files: Mapping[str, bytes], meta: Mapping[str, Any], *, replace: bool = False
) -> None:
    """Write ``files`` to a hidden folder beside ``final``, flush, then rename (ours).

    The manifest holds ``meta`` and the SHA-256 and size of each file; a kill at any instant leaves
    either a whole folder or none. With ``replace`` the old folder steps aside first, and is deleted
    when the new one is in place.

    Raises:
        StorageError: ``final`` exists (and not ``replace``) or holds files of others, the disk is
            full or not writable.
    """
    if final.exists() and not replace:
        raise StorageError(f"{final} exists already; choose another folder or delete it")
    final = Path(os.path.abspath(final))
    if others := _others(final):
        raise StorageError(
            f"{final} is not replaced: it holds what was not saved with it ({others[0]}). Choose "
            "another folder, or move that away"
        )
    draft = final.parent / f".tmp-{final.name}-{os.getpid()}"
    old = final.parent / f".old-{final.name}-{os.getpid()}"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        for name, data in files.items():
            write_synced(draft / name, data)
        manifest = {**meta, "files": {n: digest(d) for n, d in sorted(files.items())}}
        write_synced(draft / MANIFEST, sealed(manifest))
        sync_folder(draft)
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(final, old)
        os.rename(draft, final)
        sync_folder(final.parent)
        if old.is_symlink():
            old.unlink()
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if old.exists() and not final.exists():
            os.rename(old, final)
        raise StorageError(
            f"cannot write {final}: {error.strerror or error}. Free space or choose another folder"
        ) from error


def user_cache(part: str) -> Path | None:
    """Return the folder ``part`` of the user's cache (it may not exist), ``None`` without a home.

    ``GANCOMPRESS_CACHE`` or ``XDG_CACHE_HOME`` choose where.
    """
    if chosen := os.environ.get("GANCOMPRESS_CACHE"):
        return Path(chosen) / part
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "gancompress" / part
    except RuntimeError:
        return None


def _others(folder: Path) -> list[str]:
    """Return what lies in ``folder`` besides the files of its manifest: not ours to delete."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        return ["a file of that name"]
    found = sorted(p.name for p in folder.iterdir())
    try:
        known = {MANIFEST, *read_json(folder / MANIFEST)["files"]} if found else set[str]()
    except (CheckpointError, KeyError, TypeError):
        known = set()
    return [name for name in found if name not in known]


def read_json(file: Path, limit: int = 64 * 2**20) -> Any:
    """Return the JSON value in ``file``, a record of ours of at most ``limit`` bytes.

    Raises:
        CheckpointError: it cannot be read, is no JSON, too long, or nested too deep.
    """
    try:
        return json.loads(read_plain(file, limit))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({_said(error)})") from error


def read_plain(file: Path, limit: int) -> bytes:
    """Return the bytes of a file of at most ``limit`` bytes, or of a link to one.

    Raises:
        OSError: it cannot be read, or is a folder, a pipe or a device: reading may never end.
        ValueError: it is longer; nothing has been read then.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{file.name} is no plain file")
    if found.st_size > limit:
        raise ValueError(f"{file.name} has {found.st_size} bytes, at most {limit} were expected")
    with open(file, "rb") as stream:
        return stream.read(found.st_size)  # not the limit: memory is taken for what is asked


class BoundedFile:
    """An open file that does not take memory for bytes which it does not hold (ours).

    ``read(2**40)`` of a file object reserves so much first; of this it is a ValueError.
    """

    def __init__(self, file: Any) -> None:
        self._file, self.tell, self.seek, self.readline = file, file.tell, file.seek, file.readline
        here = file.tell()
        self.size: int = file.seek(0, os.SEEK_END)
        file.seek(here)

    def read(self, count: int = -1) -> bytes:
        """Return up to ``count`` bytes.

        Raises:
            ValueError: the file is shorter.
        """
        if count > self.size:
            raise ValueError(f"{count} bytes are claimed, the whole file has {self.size}")
        return self._file.read(count)


def sealed(record: Mapping[str, Any]) -> bytes:
    """Return ``record`` as JSON that holds its own SHA-256, so that an edit of it shows (ours)."""
    body = {**{k: v for k, v in record.items() if k not in _SEAL}, "sealed": True}
    seal = hashlib.sha256(json.dumps(body, indent=1).encode()).hexdigest()
    return json.dumps({**body, "seal": seal}, indent=1).encode()


_SEAL = ("sealed", "seal")


def read_sealed(file: Path) -> dict[str, Any]:
    """Return the record that `sealed` wrote to ``file``, or one of a version without seals.

    Raises:
        CheckpointError: it cannot be read, is no table, or is not what was written.
    """
    found = read_json(file)
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} is damaged: it holds no table")
    if any(key in found for key in _SEAL) and read_plain(file, 64 * 2**20) != sealed(found):
        raise CheckpointError(
            f"{file} is damaged or was edited: its own SHA-256 is not that of its text. Copy it "
            "again"
        )
    return found


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Return whether `sealed` wrote ``record``: earlier versions did not."""
    return "sealed" in record


def replace_file(file: Path, data: bytes) -> None:
    """Write ``data`` to ``file``, flushed to the disk, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there is there.
    """
    draft = file.with_name(f".{file.name}.tmp")
    write_synced(draft, data)
    draft.replace(file)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def read_folder(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the files of a folder, after checking every hash.

    Raises:
        CheckpointError: no manifest, or a file is missing, changed or truncated.
    """
    try:
        manifest = read_sealed(path / MANIFEST)
        files = {}
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                raise CheckpointError(f"{path}: the manifest names {name!r}, outside the folder")
            data = read_plain(path / name, int(expected["bytes"]))
            if digest(data) != expected:
                raise CheckpointError(
                    f"{path / name} is damaged: its SHA-256 is not the recorded one. Copy it again"
                )
            files[name] = data
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a readable folder of ours: {error!r}") from error
    return manifest, files


def digest(data: bytes) -> dict[str, Any]:
    """Return the SHA-256 and the length of ``data``, as the manifest holds them."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write_synced(file: Path, data: bytes) -> None:
    """Write and flush to the disk."""
    with open(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; Windows opens no folders, and writes them itself."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
