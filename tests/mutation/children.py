"""Run tests in forked children of a process that has imported what is slow, one copy each."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COPIED = ("gancompress", "tests", "benchmarks", "examples", "pyproject.toml", "README.md", "docs")
# Not what pytest loads as a plugin of its own: it insists on being first.
_SLOW = (
    "torch.fx.experimental.symbolic_shapes",
    "torch.fx.experimental.proxy_tensor",
    "torch.utils.flop_counter",
    "scipy.sparse.csgraph",
    "safetensors.torch",
    "pydantic",
    "pytest",
    "yaml",
)


def warm_up() -> None:
    """Import what every test needs, and nothing of the package: a child starts in no time."""
    # A pool of threads would not survive the fork.
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in _SLOW:
        __import__(name)
    import torch

    torch.set_num_threads(1)
    assert not any(name.partition(".")[0] == "gancompress" for name in sys.modules)


def make_copy(root: Path, into: Path) -> Path:
    """Copy the package and its tests, so that nothing is ever planted in the working tree."""
    into.mkdir(parents=True)
    dirt = shutil.ignore_patterns("__pycache__", "*.pyc", ".hypothesis")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, into / name, ignore=dirt)
        elif (root / name).exists():
            shutil.copy2(root / name, into / name)
    return into


_OURS = ("gancompress", "tests", "benchmarks")


@dataclass
class Job:
    """Tests to run in a copy, with one file of it changed; what came of them.

    Attributes:
        key: for who asked.
        tests: arguments of pytest.
        file: path in the copy that is changed, or ``None``.
        text: what it holds while the tests run.
        limit: seconds after which the tests are stopped.
        code: exit code of pytest; minus the signal that ended the child; ``None``: stopped.
        seconds: how long it took.
        output: the end of what pytest wrote.
    """

    key: str
    tests: tuple[str, ...]
    file: str | None = None
    text: str = ""
    limit: float = 600.0
    code: int | None = None
    seconds: float = 0.0
    output: str = ""


@dataclass
class Slot:
    """A copy, and the child that works in it."""

    home: Path
    job: Job | None = None
    pid: int = 0
    began: float = 0.0
    kept: bytes = b""
    _log: Path = field(init=False)

    def __post_init__(self) -> None:
        self._log = self.home.parent / f"{self.home.name}.log"

    def start(self, job: Job) -> None:
        """Change the file and fork a child that runs the tests."""
        self.job, self.began = job, time.monotonic()
        if job.file is not None:
            path = self.home / job.file
            self.kept = path.read_bytes()
            path.write_text(job.text)
            # Python tells stale byte code by size and whole seconds: too coarse for us.
            for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
                stale.unlink()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _in_child(self.home, job.tests, self._log, planted=job.file is not None)

    def poll(self) -> Job | None:
        """Return the job when it has ended, with the file put back."""
        assert self.job is not None
        job = self.job
        done, status = os.waitpid(self.pid, os.WNOHANG)
        job.seconds = time.monotonic() - self.began
        if done:
            job.code = os.waitstatus_to_exitcode(status)
        elif job.seconds > job.limit:
            self._end_child()
        else:
            return None
        if job.file is not None:
            (self.home / job.file).write_bytes(self.kept)
        job.output = self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""
        self.job = None
        return job

    def close(self) -> None:
        """End the child that still works, if any."""
        if self.job is not None:
            self._end_child()
            self.job = None

    def _end_child(self) -> None:
        try:  # with what it started itself: it leads a process group of its own
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # forked just now, it leads none yet
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _in_child(home: Path, tests: Sequence[str], log: Path, *, planted: bool) -> None:
    code = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = sys.stderr = os.fdopen(1, "w")
        os.chdir(home)
        os.environ["PYTHONPATH"] = str(home)
        sys.path[:] = [str(home), *(p for p in sys.path if p and not _ours(p))]
        sys.dont_write_bytecode = planted
        if planted:
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for name in [n for n in sys.modules if n.partition(".")[0] in _OURS]:
            del sys.modules[name]
        import pytest

        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]))
        import gancompress

        if not str(gancompress.__file__).startswith(str(home)):
            print(f"tested {gancompress.__file__} instead of {home}")
            code = 71
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ours(path: str) -> bool:
    return (Path(path) / "gancompress" / "__init__.py").exists()


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    done: Callable[[Job], object],
    end: float | None = None,
) -> None:
    """Run jobs, as many at once as there are slots; call ``done(job)`` for each that ended.

    None is begun when ``time.monotonic()`` has passed ``end``.
    """
    waiting = list(jobs)
    # A stop from outside must not leave children behind, nor a copy in the temporary folder.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while waiting or any(s.job is not None for s in slots):
            if end is not None and time.monotonic() > end:
                waiting.clear()
            for slot in slots:
                if slot.job is not None and (job := slot.poll()) is not None:
                    done(job)
                if slot.job is None and waiting:
                    slot.start(waiting.pop(0))
            time.sleep(0.02)
    finally:
        signal.signal(signal.SIGTERM, before)
        for slot in slots:
            slot.close()
