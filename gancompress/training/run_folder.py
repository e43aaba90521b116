"""The folder of one run: numbered, never overwritten, locked while in use."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.recipes.schema import Recipe, fields_that_count
from gancompress.storage import read_json, replace_file, sealed
from gancompress.training.environment import environment
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
    is_trained,
    numbered_runs,
    run_number,
)
from gancompress.training.run_manifest import check_start as check_start
from gancompress.training.run_manifest import make_folder as make_folder
from gancompress.training.run_manifest import run_manifest, seal
from gancompress.training.run_manifest import write_summary as write_summary


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


def _is_same(config: Path, recipe: Recipe) -> bool:
    try:
        return load_recipe(config) == recipe
    except ConfigError:
        return False
