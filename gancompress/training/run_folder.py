"""The folder of one run: numbered, never overwritten, locked while in use."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gancompress import __version__
from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.recipes.schema import Recipe, fields_that_count
from gancompress.storage import (
    digest,
    is_sealed,
    read_json,
    read_plain,
    read_sealed,
    replace_file,
    sealed,
    sync_folder,
    write_synced,
)
from gancompress.training.lock import Lock
from gancompress.training.run_files import (
    CHECKPOINTS,
    COMMAND,
    CONFIG,
    ENVIRONMENT,
    LOCK,
    LOG,
    MANIFEST,
    MODEL,
    SAMPLES,
    SUBJECT,
    SUMMARY,
    is_trained,
    numbered_runs,
    run_number,
)


class RunFolder:
    """``runs/0001-<recipe>-<model>/`` with the run's records (ours).

    ``config.yaml`` the resolved recipe, ``command.txt`` and ``env.json`` how it was started,
    ``metrics.jsonl`` and ``events.jsonl`` what happened, ``samples/``, ``ckpt/``, ``model/``.
    ``moved`` says, once begun, what has changed since the last start that decides the last bits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self.samples = path / SAMPLES
        self.model = path / MODEL
        self.moved = ""
        self._lock = Lock(path / LOCK)
        self._started = time.monotonic()

    @classmethod
    def create(cls, root: Path, label: str, files: Mapping[str, str] | None = None) -> RunFolder:
        """Make the next numbered folder below ``root``, with ``files`` in it from its first moment.

        Raises:
            StorageError: nothing can be written there.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            while True:
                taken = [run_number(p) or 0 for p in numbered_runs(root)]
                path = root / f"{max(taken, default=0) + 1:04d}-{label}"
                # Two runs started together race for a number: whoever makes the folder has it.
                with contextlib.suppress(FileExistsError):
                    make_folder(path, files or {})
                    return cls(path)
        except OSError as error:
            raise StorageError(
                f"cannot make a run folder in {root}: {error.strerror}. Choose another with --out"
            ) from error

    def begin(
        self, recipe: Recipe, *, resume: bool, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Lock the folder and write how the run was started, before anything else.

        ``facts`` go to ``env.json`` beside the versions, by name.
        A folder whose run was stopped before its first step is used again.

        Raises:
            ConfigError: it holds another run (or, without ``resume``, any run), or it is in use.
            CheckpointError: what it was started with has been changed since.
            StorageError: it cannot be written.
        """
        if not resume and is_trained(self.path):
            raise ConfigError(
                f"{self.path} holds a run and is not overwritten: choose another folder, or resume"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._write_start(recipe, resume=resume, facts=facts or {})
        except OSError as error:
            self.release()
            raise self._unwritable(error) from error
        except BaseException:
            self.release()
            raise

    def _write_start(self, recipe: Recipe, *, resume: bool, facts: Mapping[str, Any]) -> None:
        config = self.path / CONFIG
        if resume:
            check_start(self.path)
        if config.exists() and is_trained(self.path):
            self._check_same(recipe)
        elif not config.exists() or not _is_same(config, recipe):
            # Nothing was learnt by it yet: the recipe given now is the one that counts.
            self.write_text(CONFIG, dump_recipe(recipe))
            (self.path / MANIFEST).unlink(missing_ok=True)
        if not (self.path / MANIFEST).exists():
            replace_file(self.path / MANIFEST, run_manifest(self.path, CONFIG, SUBJECT))
        self.write_text(COMMAND, shlex.join(sys.argv) + "\n")
        self.moved = self._differences(now := environment())
        # Sealed: a resume takes precision and memory format from it, and no manifest can hold what
        # each start writes anew.
        replace_file(self.path / ENVIRONMENT, sealed(now | dict(facts)))

    def seal(self) -> None:
        """Put what the run leaves, its model and its summary, into its manifest.

        Raises:
            StorageError: the disk is full or not writable.
        """
        seal(self.path)

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"cannot write the run folder {self.path}: {error.strerror}. Choose another"
        )

    def release(self) -> None:
        """Give the folder back."""
        self._lock.release()

    def leave(self, kind: object, error: BaseException | None, where: object) -> None:
        """Give the folder back at the end of a ``with``; an error goes to the log first."""
        if error is not None:
            with contextlib.suppress(StorageError):  # a full disk must not hide what went wrong
                self.note(f"{type(error).__name__}: {error}")
        self.release()

    def write_json(self, name: str, value: Any) -> None:
        """Write ``value`` to the file ``name``, whole or not at all."""
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write ``text`` to the file ``name``, whole or not at all."""
        replace_file(self.path / name, text.encode("utf-8"))

    def append(self, name: str, values: dict[str, Any]) -> None:
        """Append one line of JSON to the file ``name``, with the seconds since the start.

        Raises:
            StorageError: the disk is full or not writable.
        """
        values = {**values, "seconds": round(time.monotonic() - self._started, 3)}
        self._add(name, json.dumps(values))

    def note(self, text: str) -> None:
        """Append a line for people, with date and time, to ``log.txt``; it is never rewound.

        Raises:
            StorageError: the disk is full or not writable.
        """
        self._add(LOG, f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}")

    def _add(self, name: str, line: str) -> None:
        try:
            with open(self.path / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {self.path / name}: {error.strerror}") from error

    def rewind(self, name: str, step: int) -> list[dict[str, Any]]:
        """Drop the lines of ``name`` after ``step`` (or cut short by a kill); return the others."""
        file = self.path / name
        kept: list[dict[str, Any]] = []
        if file.exists():
            for text in file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                    line = json.loads(text)
                    if line["step"] <= step:
                        kept.append(line)
            self.write_text(name, "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def _check_same(self, recipe: Recipe) -> None:
        started = load_recipe(self.path / CONFIG)
        for key in fields_that_count(recipe):
            then, now = getattr(started, key), getattr(recipe, key)
            if then != now:
                raise ConfigError(
                    f"{self.path} was started with {key} = {then!r}, not {now!r}: resume it with "
                    "the same recipe, or start a new run"
                )

    def _differences(self, now: dict[str, Any]) -> str:
        with contextlib.suppress(CheckpointError, KeyError, TypeError):
            then = read_json(self.path / ENVIRONMENT)
            changes = [k for k in ("torch", "cpu", "threads") if k in then and then[k] != now[k]]
            return ", ".join(f"{k} {then[k]} -> {now[k]}" for k in changes)
        return ""


def environment() -> dict[str, Any]:
    """Return what decides a run besides its recipe: versions, machine, threads, git commit."""
    return {
        "gancompress": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "git": git_commit(),
    }


def git_commit() -> str | None:
    """Return the commit of the source in use, plus ``+changes`` if edited; ``None``: unknown."""
    here = Path(__file__).resolve().parent.parent
    answers = []
    for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", str(here))):
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *command], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError):
            return None
        if done.returncode:
            return None
        answers.append(done.stdout.strip())
    return answers[0] + ("+changes" if answers[1] else "")


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


def _is_same(config: Path, recipe: Recipe) -> bool:
    try:
        return load_recipe(config) == recipe
    except ConfigError:
        return False


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``, whole or not at all, and put it into the manifest."""
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    replace_file(run / SUMMARY, text.encode())
    seal(run)
