"""The manifest of a run folder: what the run was started with and what it left, by hash."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gancompress.errors import CheckpointError, StorageError
from gancompress.storage import (
    digest,
    is_sealed,
    read_plain,
    read_sealed,
    replace_file,
    sealed,
    sync_folder,
    write_synced,
)
from gancompress.training.run_files import (
    CONFIG,
    ENVIRONMENT,
    MANIFEST,
    MODEL,
    SUBJECT,
    SUMMARY,
    is_trained,
)


def make_folder(path: Path, files: Mapping[str, str]) -> None:
    """Make ``path`` with ``files`` and their manifest in it: all of them are there, or no folder.

    Raises:
        FileExistsError: something is there, and it is no empty folder.
        OSError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(error.errno, "a file is in the way", str(path.parent)) from error
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        for name, text in files.items():
            write_synced(draft / name, text.encode())
        if files:
            write_synced(draft / MANIFEST, run_manifest(draft, *files))
        else:
            # Two empty folders would take each other's place.
            path.mkdir()
            return
        sync_folder(draft)
        try:
            os.rename(draft, path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(error.errno, "exists already", str(path)) from error
            raise
        sync_folder(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def run_manifest(run: Path, *names: str) -> bytes:
    """Return the manifest of those files of ``run`` that are there."""
    files = {n: digest((run / n).read_bytes()) for n in names if (run / n).is_file()}
    return sealed({"run": 1, "files": files})


def check_start(run: Path) -> None:
    """Compare what a resume reads with the run's manifest, where it has one.

    Raises:
        CheckpointError: a file was changed or deleted since the run was started.
    """
    if is_trained(run):
        check_records(run)
    if not (run / MANIFEST).is_file():
        return
    try:
        listed = dict(read_sealed(run / MANIFEST)["files"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run / MANIFEST} is damaged ({error!r})") from error
    for name in (CONFIG, SUBJECT):
        if name not in listed:
            continue
        try:
            same = digest(read_plain(run / name, int(listed[name]["bytes"]))) == listed[name]
        except (OSError, ValueError, TypeError, KeyError):
            same = False
        if not same:
            raise CheckpointError(
                f"{run / name} is not what the run was started with (SHA-256). Put it back, or "
                "begin a new run with --init-from"
            )


def check_records(run: Path) -> None:
    """Refuse a run that has learnt and has lost its ``env.json`` or manifest, or changed the first.

    Both are written before the first step. Runs of earlier versions had no manifest, and an
    ``env.json`` without a seal.

    Raises:
        CheckpointError: so it is.
    """
    if not (run / ENVIRONMENT).is_file():
        raise CheckpointError(
            f"{run / ENVIRONMENT} is missing: it says in which precision the run computes. Put it "
            "back, or begin a new run with --init-from"
        )
    found = read_sealed(run / ENVIRONMENT)
    new = (run / MANIFEST).is_file() and is_sealed(read_sealed(run / MANIFEST))
    if new and not (is_sealed(found) and "gancompress" in found):
        # Another record of ours, whole in itself, in its place.
        raise CheckpointError(f"{run / ENVIRONMENT} is damaged: it names no version")
    if is_sealed(found) and not (run / MANIFEST).is_file():
        raise CheckpointError(
            f"{run / MANIFEST} is missing: it holds the hashes of {CONFIG} and {SUBJECT}. Put it "
            "back, or begin a new run with --init-from"
        )


def seal(run: Path) -> None:
    """Put model and summary into the manifest of ``run``; what it was started with stays as it is.

    Raises:
        StorageError: the disk is full or not writable.
    """
    try:
        try:
            started = dict(read_sealed(run / MANIFEST)["files"])
        except (CheckpointError, KeyError, TypeError, ValueError):
            started = json.loads(run_manifest(run, CONFIG, SUBJECT))["files"]
        left = json.loads(run_manifest(run, f"{MODEL}/{MANIFEST}", SUMMARY))["files"]
        replace_file(run / MANIFEST, sealed({"run": 1, "files": {**started, **left}}))
    except OSError as error:
        raise StorageError(f"cannot write {run / MANIFEST}: {error.strerror}") from error


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``, whole or not at all, and put it into the manifest."""
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    replace_file(run / SUMMARY, text.encode())
    seal(run)
