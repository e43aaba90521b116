"""Run something in a child of little memory and time that tells what it tried to do."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gancompress.errors import GancompressError, lack_of_memory

FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
    "subprocess.Popen", "socket.connect", "socket.bind", "socket.sendto", "ctypes.dlopen",
    "webbrowser.open",
)  # fmt: skip
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


@dataclass(frozen=True)
class Outcome:
    """What became of a child.

    Attributes:
        error: the type of what it raised; empty: nothing.
        typed: whether that is an error of ours, or lack of memory: the user is told what to do.
        text: its message, or what the work returned.
        tried: forbidden things that it did, by name.
        died: how it ended without a word; empty: it did not.
        mib: memory that it took.
        cpu_s: processor seconds that it used.
    """

    error: str = ""
    typed: bool = False
    text: str = ""
    tried: tuple[str, ...] = ()
    died: str = ""
    mib: float = 0.0
    cpu_s: float = 0.0


def confined(
    work: Callable[[], Any], folder: Path, *, memory: int = 2**31, cpu_s: int = 5
) -> Outcome:
    """Return what becomes of ``work()`` in a forked child that may write below ``folder`` only.

    It gets ``memory`` bytes and ``cpu_s`` processor seconds, and a minute on the clock.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        _inside(work, folder, theirs, memory, cpu_s)
    os.close(theirs)
    end = time.monotonic() + 60.0 + 10 * cpu_s
    os.set_blocking(ours, False)
    data, status, usage = b"", 0, None
    while usage is None:
        with os.fdopen(os.dup(ours), "rb") as stream:
            data += stream.read() or b""
        gone, status, found = os.wait4(child, os.WNOHANG)
        if gone:
            usage = found
        elif time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        else:
            time.sleep(0.002)
    with os.fdopen(ours, "rb") as stream:
        data += stream.read() or b""
    if os.WIFSIGNALED(status):
        return Outcome(died=signal.Signals(os.WTERMSIG(status)).name, cpu_s=usage.ru_utime)
    if not data:
        return Outcome(died=f"exit {os.waitstatus_to_exitcode(status)}", cpu_s=usage.ru_utime)
    return Outcome(**{**json.loads(data), "cpu_s": usage.ru_utime + usage.ru_stime})


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return _size("VmRSS")


def _inside(work: Callable[[], Any], folder: Path, pipe: int, memory: int, cpu_s: int) -> None:
    found: dict[str, Any] = {}
    tried: list[str] = []
    try:
        before = _size("VmSize")
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_AS, (before + memory, before + memory))
        start = _size("VmRSS")
        sys.dont_write_bytecode = True
        home = str(folder.resolve())
        sys.addaudithook(lambda event, args: _watch(event, args, home, tried))
        try:
            found["text"] = str(work())[:2000]
        except Exception as error:
            found |= {
                "error": type(error).__name__,
                "typed": isinstance(error, GancompressError) or lack_of_memory(error) is not None,
                "text": str(error)[:2000],
            }
        found["mib"] = round((_size("VmHWM") - start) / 2**20, 1)
        found["tried"] = tried[:5]
        os.write(pipe, json.dumps(found).encode()[:60_000])
    finally:
        os._exit(0)


def _watch(event: str, args: tuple[Any, ...], home: str, tried: list[str]) -> None:
    if event in FORBIDDEN:
        tried.append(f"{event} {str(args[:1])[:80]}")
    elif event in CHANGES and not _below(args[0], home):
        tried.append(f"{event} {str(args[0])[:80]}")
    elif event == "open" and not isinstance(args[0], int):
        mode, flags = args[1] or "", args[2] or 0
        writes = any(c in mode for c in "wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and args[0] != os.devnull and not _below(args[0], home):
            tried.append(f"write {str(args[0])[:80]}")


def _below(path: Any, home: str) -> bool:
    try:
        return os.path.realpath(os.fsdecode(path)).startswith(home)
    except (TypeError, ValueError):
        return isinstance(path, int)


def _size(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0
