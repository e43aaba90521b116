"""What decides a run besides its recipe, as ``env.json`` keeps it."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import torch

from gancompress import __version__


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
