"""Who works in a run folder: one process, known by machine, boot, process number and its start."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gancompress.errors import ConfigError

BEAT = 10.0  # seconds between two signs of life of a holder
LEASE = 45.0  # seconds without one after which a holder that cannot be asked is gone
_FORM = re.compile(
    r"(?P<pid>\d{1,10}) (?P<host>\S+)"
    r"(?: boot=(?P<boot>\S*) start=(?P<start>\S*) space=(?P<space>\S*))?"
)


@dataclass(frozen=True)
class Holder:
    """A process: ``boot`` and ``space`` (of process numbers) say where ``pid`` means anything.

    ``start`` tells it from a later process of the same number. Empty: not known here; all three
    empty: written by an earlier version, which gave no signs of life.
    """

    pid: int
    host: str
    boot: str = ""
    start: str = ""
    space: str = ""

    def __str__(self) -> str:
        return f"{self.pid} {self.host} boot={self.boot} start={self.start} space={self.space}\n"

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """Read what `__str__` wrote, or an earlier version; ``None``: nobody wrote this."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            return None
        words = {k: v or "" for k, v in match.groupdict().items() if k not in ("pid", "host")}
        return cls(int(match["pid"]), match["host"], **words)


class Lock:
    """A lock file in a run folder (ours).

    It appears with its content in one step. A thread gives signs of life as long as the process
    lives, for those who cannot see it: other machines, other containers.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._mine = ""
        self._done = threading.Event()

    def take(self) -> None:
        """Take the lock, from a holder that is gone if need be.

        Raises:
            ConfigError: another process has it.
            OSError: it cannot be written.
        """
        self._mine = str(current())
        for _ in range(8):
            if _make(self.file, self._mine):
                self._done = threading.Event()
                threading.Thread(target=self._beat, args=(self._done,), daemon=True).start()
                return
            text = _read(self.file)
            if text is None:
                continue
            holder = Holder.parse(text)
            if holder is not None and is_alive(holder, self.file):
                raise ConfigError(
                    f"{self.file.parent} is in use by process {holder.pid} on {holder.host}. Wait "
                    f"for it, or choose another folder; if that is not so, delete {self.file}"
                )
            _remove(self.file, text)
        raise ConfigError(f"{self.file.parent} was taken by another run just now")

    def release(self) -> None:
        """Give it back, if it still is ours."""
        self._done.set()
        if self._mine and _read(self.file) == self._mine:
            self.file.unlink(missing_ok=True)
        self._mine = ""

    def _beat(self, done: threading.Event) -> None:
        while not done.wait(BEAT):
            try:
                os.utime(self.file)
            except OSError:
                return


def current() -> Holder:
    """Return this process."""
    pid = os.getpid()
    host = re.sub(r"\s+", "-", socket.gethostname()) or "unknown"
    return Holder(pid, host, boot_id(), start_of(pid) or "", _space())


def is_alive(holder: Holder, file: Path) -> bool:
    """Return whether ``holder`` still runs; where it cannot be asked, wait for a sign of life."""
    me = current()
    known = (holder.boot, holder.space) != ("", "")
    here = holder.host == me.host and (
        not known or (holder.boot, holder.space) == (me.boot, me.space)
    )
    if here:
        start = start_of(holder.pid)
        if start is None:
            return False
        if holder.start:
            return start == holder.start
        with contextlib.suppress(OSError):
            # An earlier version: a process that began after the lock was written is another one.
            began = _began(holder.pid)
            return began is None or began <= file.stat().st_mtime + 2.0
        return True
    return _gives_signs(file) if known else True


def _gives_signs(file: Path) -> bool:
    """Return whether the file's time moves within the lease; all times are of the file's disk."""
    with contextlib.suppress(OSError):
        first = file.stat().st_mtime
        probe = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        probe.write_text("")
        age = probe.stat().st_mtime - first
        probe.unlink()
        left = min(LEASE, LEASE - age)
        end = time.monotonic() + left
        while time.monotonic() < end:
            time.sleep(min(0.5, max(0.0, end - time.monotonic())))
            # Opened, since a network's disk answers from memory otherwise.
            with open(file, "rb") as stream:
                if os.fstat(stream.fileno()).st_mtime != first:
                    return True
    return False


def boot_id() -> str:
    """Return what changes with each start of this machine; empty: unknown."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return _asked("sysctl", "-n", "kern.bootsessionuuid")


def start_of(pid: int) -> str | None:
    """Return when process ``pid`` started, in the system's own terms; ``None``: there is none."""
    proc = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = proc.read_text(errors="replace").rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        # A dead process that nobody has waited for keeps its number.
        return None if fields[0] in "ZX" else fields[19]
    if os.name == "nt":
        ticks = f"(Get-Process -Id {pid} -ErrorAction Stop).StartTime.Ticks"
        return _asked("powershell", "-NoProfile", "-Command", ticks) or None
    return _asked("ps", "-o", "lstart=", "-p", str(pid)).replace(" ", "_") or None


def _began(pid: int) -> float | None:
    """Return when ``pid`` started, in seconds since 1970; ``None``: unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = float(start_of(pid) or "")
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    return None


def _space() -> str:
    """Return the space that process numbers belong to: each container has its own."""
    with contextlib.suppress(OSError):
        return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    return ""


def _asked(*words: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
        return done.stdout.strip()
    return ""


def _make(file: Path, text: str) -> bool:
    """Make ``file`` with its content in one step; return whether it was free."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    draft.write_text(text, encoding="utf-8")
    try:
        os.link(draft, file)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links
        try:
            with open(file, "x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _read(file: Path) -> str | None:
    try:
        with open(file, "rb") as stream:
            return stream.read(4096).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _remove(file: Path, judged: str) -> None:
    """Take away the lock whose content was ``judged``; another one is put back."""
    with _alone(file.parent):
        # Somebody else may have judged the same, taken it away, and made one of their own by now.
        if _read(file) == judged:
            _take_away(file, judged)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time in here; on a disk that cannot, the lock is put back if need be."""
    handle = None
    try:
        with contextlib.suppress(ImportError, OSError):  # Windows; some network disks
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _take_away(file: Path, judged: str) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.old.tmp")
    try:
        os.rename(file, aside)
    except FileNotFoundError:
        return
    if _read(aside) != judged:
        with contextlib.suppress(OSError):
            os.link(aside, file)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
