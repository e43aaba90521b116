"""Folders that are whole or absent: files, their hashes in a manifest, one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
        write_synced(draft / MANIFEST, json.dumps(manifest, indent=1).encode())
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


def _others(folder: Path) -> list[str]:
    """Return what lies in ``folder`` besides the files of its manifest: not ours to delete."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        return ["a file of that name"]
    found = sorted(p.name for p in folder.iterdir())
    try:
        known = {MANIFEST, *read_json(folder / MANIFEST)["files"]} if found else set()
    except (CheckpointError, KeyError, TypeError):
        known = set()
    return [name for name in found if name not in known]


def read_json(file: Path, limit: int = 64 * 2**20) -> Any:
    """Return the JSON value in ``file``, a record of ours of at most ``limit`` bytes.

    Raises:
        CheckpointError: it cannot be read, is no JSON, too long, or nested too deep.
    """
    try:
        if file.stat().st_size > limit:
            raise ValueError(f"{file.stat().st_size} bytes are too many for a record")
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({_said(error)})") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def read_folder(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the files of a folder, after checking every hash.

    Raises:
        CheckpointError: no manifest, or a file is missing, changed or truncated.
    """
    try:
        manifest = read_json(path / MANIFEST)
        files = {}
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                raise CheckpointError(f"{path}: the manifest names {name!r}, outside the folder")
            data = (path / name).read_bytes()
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
