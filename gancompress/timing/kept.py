"""What was measured on this machine before: one JSON file in the user's cache folder a key."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeVar, cast

import torch

from gancompress import __version__
from gancompress.modules.machine import cpu_flags
from gancompress.storage import user_cache
from gancompress.target import Setting

T = TypeVar("T")
SCHEMA = 1
KEPT = 2000  # files; the oldest go


def kept(setting: Setting, what: str, measure: Callable[[], T]) -> T:
    """Return what ``measure`` returned on this machine before, else measure and keep it (ours).

    A machine is its device, the versions of what computes, and the threads; a cache that is
    damaged or cannot be written only costs the time to measure again.

    Args:
        setting: device and engine are part of the key.
        what: the rest of the key.
        measure: returns what JSON can hold.
    """
    folder, name = user_cache("timing"), _digest(f"{machine(setting)}\0{what}")
    path = None if folder is None else folder / f"{name}.json"
    if path is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_bytes())
            if found["what"] == what:
                return cast(T, found["measured"])
    measured = measure()
    if path is not None:
        _write(path, json.dumps({"what": what, "measured": measured}))
    return measured


def machine(setting: Setting) -> str:
    """Return in one line what decides how long an operator takes here."""
    device = setting.device
    if device.startswith("cuda"):
        name = f"{torch.cuda.get_device_name(device)} cuda {torch.version.cuda}"
    else:
        name = f"{_processor()} {torch.get_num_threads()} threads"
    runtime = ""
    if setting.engine == "onnxruntime":
        with contextlib.suppress(metadata.PackageNotFoundError):
            runtime = f" onnxruntime {metadata.version('onnxruntime')}"
    # Compiled networks call the operators of eager ones.
    engine = "onnxruntime" if setting.engine == "onnxruntime" else "torch"
    return (
        f"{SCHEMA} gancompress {__version__} {device} {name} torch {torch.__version__} "
        f"{engine}{runtime}"
    )


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model} {_digest(' '.join(sorted(cpu_flags())))[:8]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(path: Path, text: str) -> None:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix="new-")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, path)
        files = sorted(path.parent.glob("*.json"), key=lambda f: f.stat().st_mtime, reverse=True)
        for file in files[KEPT:]:
            file.unlink()
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
