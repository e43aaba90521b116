"""The folder of one run: numbered, never overwritten, locked while in use."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from gancompress.errors import StorageError


class RunFolder:
    """``runs/0001-<recipe>-<model>/`` with the run's records (ours).

    Raises:
        StorageError: the folder cannot be made, or another live process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "ckpt"
        self.samples = path / "samples"
        self._started = time.monotonic()

    @classmethod
    def create(cls, root: Path, label: str) -> RunFolder:
        """Make the next numbered folder below ``root``."""
        root.mkdir(parents=True, exist_ok=True)
        while True:
            taken = [int(m[1]) for p in root.iterdir() if (m := re.match(r"(\d{4,})-", p.name))]
            path = root / f"{max(taken, default=0) + 1:04d}-{label}"
            # Two runs started together race for a number: whoever makes the folder has it.
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return cls(path)

    def write_json(self, name: str, value: Any) -> None:
        """Write ``value`` to the file ``name``, whole or not at all."""
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write ``text`` to the file ``name``, whole or not at all."""
        draft = self.path / f".{name}.tmp"
        draft.write_text(text)
        draft.replace(self.path / name)

    def metric(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``."""
        self._append("metrics.jsonl", values)

    def event(self, kind: str, **values: Any) -> None:
        """Append one line to ``events.jsonl``."""
        self._append("events.jsonl", {"event": kind, **values})

    def _append(self, name: str, values: dict[str, Any]) -> None:
        values["seconds"] = round(time.monotonic() - self._started, 3)
        with open(self.path / name, "a") as file:
            file.write(json.dumps(values) + "\n")


def environment() -> dict[str, Any]:
    """Return what decides a run besides its recipe: versions, machine, threads, git commit."""
    commit = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        here = Path(__file__).parent
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True, text=True, check=True, timeout=5,
        ).stdout.strip()  # fmt: skip
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "threads": torch.get_num_threads(),
        "git": commit,
        "command": shlex.join(sys.argv),
    }


__all__ = ["RunFolder", "StorageError", "environment"]
