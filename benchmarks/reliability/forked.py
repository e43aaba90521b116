"""Whole runs in forked children that are stopped, and go on: torch is imported once.

The parent must never compute a gradient: torch refuses those in a child forked afterwards.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import gc
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.reliability.row import BrokenPromiseError
from benchmarks.reliability.toys import RECORD, go, recipe_of
from gancompress.commands.console import described
from gancompress.commands.run_start import new_folder, unfinished
from gancompress.commands.verify import check_integrity
from gancompress.recipes.schema import Recipe
from gancompress.training.checkpoint import checkpoints
from gancompress.training.run_files import (
    CHECKPOINTS,
    METRICS,
    MODEL,
    SAMPLES,
    SUMMARY,
    checkpoint_step,
)
from gancompress.training.run_folder import write_summary
from gancompress.training.signals import preemptible

OPERATIONS = (
    "open", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "link", "utime", "scandir",
)  # fmt: skip
EVERY = 6
"""Steps between the sample grids of these runs."""
LIMIT = 240.0
"""Seconds after which a child is called hung."""


@lru_cache(maxsize=1)
def load_all() -> None:
    """Import here what a run imports on its way: seconds in each child, the most of it torch's."""
    with tempfile.TemporaryDirectory() as folder:
        out, told = Path(folder) / "out", Path(folder) / "modules"
        known = set(sys.modules)
        ended(start(recipe_of("prune", sample_every=EVERY), out, after=lambda: _tell_modules(told)))
        for name in told.read_text().splitlines():
            if name not in known:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
    # What is here now is no child's: its collector need not look at it, nor copy its pages.
    gc.collect()
    gc.freeze()


def _tell_modules(file: Path) -> None:
    file.write_text("\n".join(list(sys.modules)))


def work(recipe: Recipe, out: Path) -> int:
    """Begin the run in ``out``, or go on with it, up to its summary; return its exit code."""
    if (out / SUMMARY).is_file():
        return 0
    going_on = unfinished(recipe, RECORD, out) is not None
    folder = out if going_on else new_folder(out, "toy", recipe, RECORD)
    result = go(recipe, folder, resume="auto" if going_on else None)
    if result.exit_code == 0:
        write_summary(folder, {"recipe": recipe.name, "quality": {}, "run": out.name})
    return result.exit_code


def start(
    recipe: Recipe,
    out: Path,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> int:
    """Fork a child that does `work` between ``before`` and ``after``; return its process number."""
    child = os.fork()
    if child:
        return child
    code, said = 1, ""
    try:
        before()
        with preemptible():
            code = work(recipe, out)
        after()
    except BaseException as error:
        said, code = described(error)
        said = f"{type(error).__name__}: {said}"
    finally:
        with contextlib.suppress(OSError), _plain_open(f"{out}.said", "w") as file:
            file.write(said)
        os._exit(code)


def ended(child: int, said: Path | None = None) -> int:
    """Wait for a child; return its exit code, or minus the signal that ended it."""
    end = time.monotonic() + LIMIT
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise BrokenPromiseError(f"a child hung for {LIMIT:.0f} s")
        time.sleep(0.005)


def finish(recipe: Recipe, out: Path, want: str) -> None:
    """Let the run in ``out`` go on to its end, which must be that of the unbroken run."""
    code = ended(start(recipe, out))
    if code:
        said = Path(f"{out}.said").read_text()
        raise BrokenPromiseError(f"it cannot be resumed: exit code {code}, {said}")
    if (found := digest(out)) != want:
        raise BrokenPromiseError(f"it ends otherwise than the unbroken run: {found}, not {want}")
    check_integrity(out, json=True)


def whole(recipe: Recipe, out: Path) -> tuple[str, float, int]:
    """Return digest, seconds and number of file operations of a run that nothing disturbs."""
    load_all()
    count = Path(f"{out}.count")
    tell = Operations(lambda n: None)

    def counted() -> None:
        tell.install()
        tell.report = count

    started = time.monotonic()
    code = ended(start(recipe, out, counted))
    assert code == 0, Path(f"{out}.said").read_text()
    return digest(out), time.monotonic() - started, len(count.read_bytes())


def digest(out: Path) -> str:
    """Return a short digest of model, plan, newest checkpoint, figures and grids of a run.

    A run that is stopped leaves a checkpoint and a grid of that step too; they are not compared.
    """
    total = hashlib.sha256()
    newest = checkpoints(out / CHECKPOINTS)[-1]
    last = checkpoint_step(newest)
    files = [*sorted((out / MODEL).iterdir()), *sorted(newest.iterdir())]
    for grid in sorted((out / SAMPLES).glob("step_*.png")):
        step = int(grid.stem.removeprefix("step_"))
        files += [grid] if step % EVERY == 0 or step == last else []
    for file in files:
        total.update(str(file.relative_to(out)).encode() + file.read_bytes())
    for line in (out / METRICS).read_text().splitlines():
        values = json.loads(line)
        clock = ("seconds", "steps_per_second", "images_per_second", "eta_seconds")
        kept = {k: v for k, v in values.items() if k not in clock}
        total.update(json.dumps(kept, sort_keys=True).encode())
    return total.hexdigest()[:16]


class Operations:
    """Counts file operations of this process, and lets ``fault(number)`` act before each."""

    def __init__(self, fault: Callable[[int], None], below: Path | None = None) -> None:
        self.fault, self.below, self.number = fault, below, 0
        self.report: Path | None = None

    def install(self) -> None:
        """Put the counter before every operation that a save can make."""
        for name in OPERATIONS:
            setattr(os, name, self._before(getattr(os, name)))
        builtins.open = self._before(builtins.open, writing=True)  # type: ignore[assignment]
        import io

        io.open = builtins.open  # type: ignore[misc]

    def _before(self, function: Callable[..., Any], writing: bool = False) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            mode = kwargs.get("mode", args[1] if len(args) > 1 else "r") if writing else "w"
            path = str(args[0]) if args else ""
            here = self.below is None or str(self.below) in path or isinstance(args[0], int)
            if here and any(c in str(mode) for c in "wax+"):
                self.number += 1
                if self.report is not None:
                    handle = _open(self.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                    os.write(handle, b".")
                    os.close(handle)
                self.fault(self.number)
            return function(*args, **kwargs)

        return counted


_open, _plain_open = os.open, builtins.open


def killing(at: int) -> Callable[[int], None]:
    """Return a fault that kills this process before its operation number ``at``."""

    def fault(number: int) -> None:
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def failing(first: int, last: int, code: int) -> Callable[[int], None]:
    """Return a fault by which operations ``first`` to ``last`` fail with the error ``code``."""

    def fault(number: int) -> None:
        if first <= number <= last:
            raise OSError(code, os.strerror(code))

    return fault


def killed_after(seconds: float, rng: random.Random) -> Callable[[], None]:
    """Return what lets the system end this process after a random time of up to ``seconds``."""
    moment = max(1e-4, rng.uniform(0.0, seconds))
    return lambda: signal.setitimer(signal.ITIMER_REAL, moment) and None


DISK = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES, errno.ENOENT)
