"""The folder of one run: numbered, never overwritten, locked while in use."""

from __future__ import annotations

import contextlib
import json
import json as jsonlib
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gancompress import __version__
from gancompress.errors import ConfigError, StorageError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.recipes.schema import Recipe

CONFIG = "config.yaml"
LOG = "log.txt"
LOCK = "lock"


class RunFolder:
    """``runs/0001-<recipe>-<model>/`` with the run's records (ours).

    ``config.yaml`` the resolved recipe, ``command.txt`` and ``env.json`` how it was started,
    ``metrics.jsonl`` and ``events.jsonl`` what happened, ``samples/``, ``ckpt/``, ``model/``.
    ``moved`` says, once begun, what has changed since the last start that decides the last bits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "ckpt"
        self.samples = path / "samples"
        self.model = path / "model"
        self.moved = ""
        self._started = time.monotonic()

    @classmethod
    def create(cls, root: Path, label: str) -> RunFolder:
        """Make the next numbered folder below ``root``.

        Raises:
            StorageError: nothing can be written there.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            while True:
                taken = [int(m[1]) for p in root.iterdir() if (m := re.match(r"(\d{4,})-", p.name))]
                path = root / f"{max(taken, default=0) + 1:04d}-{label}"
                # Two runs started together race for a number: whoever makes the folder has it.
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
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

        Raises:
            ConfigError: it holds another run (or, without ``resume``, any run), or it is in use.
            StorageError: it cannot be written.
        """
        if not resume and any(
            (self.path / name).exists() for name in ("ckpt", "metrics.jsonl", "model")
        ):
            raise ConfigError(
                f"{self.path} holds a run and is not overwritten: choose another folder, or resume"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            config = self.path / CONFIG
            if config.exists():
                self._check_same(recipe)
            self._lock()
            if not config.exists():
                self.write_text(CONFIG, dump_recipe(recipe))
            self.write_text("command.txt", shlex.join(sys.argv) + "\n")
            self.moved = self._differences(now := environment())
            self.write_json("env.json", now | dict(facts or {}))
        except OSError as error:
            raise StorageError(
                f"cannot write the run folder {self.path}: {error.strerror}. Choose another"
            ) from error

    def release(self) -> None:
        """Give the folder back."""
        (self.path / LOCK).unlink(missing_ok=True)

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
        draft = self.path / f".{name}.tmp"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.path / name)

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
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    line = json.loads(text)
                    if line["step"] <= step:
                        kept.append(line)
            self.write_text(name, "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def _check_same(self, recipe: Recipe) -> None:
        started = load_recipe(self.path / CONFIG)
        for key in type(recipe).model_fields:
            then, now = getattr(started, key), getattr(recipe, key)
            if then != now:
                raise ConfigError(
                    f"{self.path} was started with {key} = {then!r}, not {now!r}: resume it with "
                    "the same recipe, or start a new run"
                )

    def _differences(self, now: dict[str, Any]) -> str:
        with contextlib.suppress(OSError, ValueError):
            then = json.loads((self.path / "env.json").read_text(encoding="utf-8"))
            changes = [k for k in ("torch", "cpu", "threads") if k in then and then[k] != now[k]]
            return ", ".join(f"{k} {then[k]} -> {now[k]}" for k in changes)
        return ""

    def _lock(self) -> None:
        file = self.path / LOCK
        mine = f"{os.getpid()} {socket.gethostname()}\n"
        for _ in range(2):
            with contextlib.suppress(FileExistsError):
                with open(file, "x", encoding="utf-8") as stream:
                    stream.write(mine)
                return
            holder = _holder(file)
            pid, _, host = holder.partition(" ")
            elsewhere = host != socket.gethostname()
            if holder and (elsewhere or (pid.isdecimal() and _alive(int(pid)))):
                raise ConfigError(
                    f"{self.path} is in use by process {pid} on {host or 'an unknown host'}. If "
                    f"that is not so, delete {file}"
                )
            # The holder is gone without a trace, killed: its lock is nobody's.
            file.unlink(missing_ok=True)
        raise ConfigError(f"{self.path} was taken by another run just now")


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


def _holder(file: Path) -> str:
    """Return who has the lock, ``"<pid> <host>"``; empty: gone, or killed before writing it."""
    for _ in range(20):
        try:
            holder = file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        if holder:
            return holder
        time.sleep(0.05)  # whoever has made the file writes it at once
    return ""


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``, whole or not at all."""
    draft = run / ".summary.json.tmp"
    draft.write_text(jsonlib.dumps(summary, indent=2, allow_nan=False) + "\n")
    draft.replace(run / "summary.json")
