"""Supply chain: few packages, with ceilings; importing opens no socket and writes nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import record
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial

MOST = 25
MODULES = (
    "gancompress",
    "gancompress.cli",
    "gancompress.training.loop",
    "gancompress.commands.run",
)
WATCH = """
import json, os, sys
sys.dont_write_bytecode = True
found = []
def hook(event, args):
    if event.startswith("socket."):
        # Asking for the name of this machine sends nothing.
        if event not in ("socket.__new__", "socket.gethostname"):
            found.append(event)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.system",
                   "os.exec") or event == "os.putenv" and b"OPENBLAS" not in args[0]:  # numpy's
        found.append(f"{event} {args[0]!r}")
    elif event == "open" and isinstance(args[0], str):
        mode, flags = args[1] or "", args[2] or 0
        writes = any(c in mode for c in "wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and args[0] != os.devnull:
            found.append(f"write {args[0]}")
before = dict(os.environ)
sys.addaudithook(hook)
import importlib
importlib.import_module(sys.argv[1])
if before != dict(os.environ):
    found.append("the environment is another one")
print(json.dumps(found))
"""


def few_packages() -> str:
    """The core brings at most 25 packages besides those that torch needs."""
    from benchmarks.reliability.sbom import of_our_choosing

    found = of_our_choosing()
    if not 0 < len(found) <= MOST:
        raise BrokenPromiseError(f"{len(found)} packages: {found}")
    return f"{len(found)} packages in the core besides torch's"


def importing(module: str) -> Callable[[], str]:
    """Importing a module opens no socket, writes no file, starts nothing, sets no variable."""

    def check() -> str:
        done = subprocess.run(
            [sys.executable, "-c", WATCH, module],
            capture_output=True, text=True, check=True, cwd=record.ROOT,
        )  # fmt: skip
        if found := json.loads(done.stdout.splitlines()[-1]):
            raise BrokenPromiseError(f"import {module} did {found[:3]}")
        return f"import {module}"

    return check


def described() -> str:
    """The bill of materials names each package once, with its version."""
    from benchmarks.reliability.sbom import document

    parts = document()["components"]
    names = [part["name"] for part in parts]
    if len(set(names)) != len(names) or not all(part["version"] for part in parts):
        raise BrokenPromiseError("a package is named twice, or without its version")
    return "bill of materials"


CHECKS = (few_packages, described, *(importing(module) for module in MODULES))


def prepare(folder: Path) -> Trial:
    """Each trial is one check."""

    def trial(rng: random.Random, number: int) -> str:
        return CHECKS[number]()

    return trial


ROW = Row(
    "Supply",
    "At most 25 packages besides torch's; importing opens no socket, starts nothing, writes no "
    "file and no variable",
    len(CHECKS),
    prepare,
    sample=3,
)
