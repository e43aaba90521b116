"""Two consoles, results on stdout and everything else on stderr, and the JSON form of a result."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from gancompress.errors import GancompressError, OutOfMemoryError, lack_of_memory, visible

SCHEMA = 1
"""Version of every JSON object that the command line prints."""

_quiet = False
_said: list[str] = []


def set_quiet(quiet: bool) -> None:
    """Keep ``note`` silent from now on (``--quiet``)."""
    global _quiet
    _quiet = quiet


class _PlainConsole(Console):
    """A console whose texts, which may come from files, hold no control characters."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def stdout() -> Console:
    """Return the console of results; plain when ``NO_COLOR`` is set or stdout is not a terminal."""
    return _PlainConsole(file=sys.stdout, highlight=False)


def stderr() -> Console:
    """Return the console of progress, notes and errors."""
    return _PlainConsole(file=sys.stderr, highlight=False)


def note(message: str) -> None:
    """Say one line on stderr."""
    _said.append(message)
    if not _quiet:
        stderr().print(escape(message), style="dim", soft_wrap=True)


def begin_notes() -> None:
    """Forget the notes so far: a run begins."""
    _said.clear()


def said() -> list[str]:
    """Return the notes since `begin_notes`, in order; --quiet does not lose them."""
    return list(_said)


def quiet() -> bool:
    """Return whether ``--quiet`` was given."""
    return _quiet


def emit(verb: str, result: Mapping[str, Any]) -> None:
    """Print ``result`` as the one JSON object on stdout."""
    payload = {"schema": SCHEMA, "verb": verb, **result}
    sys.stdout.write(json.dumps(payload, indent=2, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def complain(message: str, *, exit_code: int, hint: str = "") -> None:
    """Print an error on stderr: what failed and why, then what to do."""
    console = stderr()
    console.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    if hint:
        console.print(f"  {escape(hint)}", soft_wrap=True)
    console.print(f"[dim]  (exit code {exit_code}; see docs/cli.md)[/]", soft_wrap=True)


_NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO) + (
    (errno.EDQUOT,) if hasattr(errno, "EDQUOT") else ()
)
_GONE = tuple(
    getattr(errno, name)
    for name in ("ENOENT", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "EHOSTDOWN")
    if hasattr(errno, name)
)
"""What becomes of a folder that is removed, or whose disk or share is taken away."""


def fail(error: BaseException, words: Sequence[str]) -> int:
    """Say what went wrong, on stderr and for --json on stdout too; return the exit code."""
    message, exit_code = described(error)
    if isinstance(error, GancompressError) and error.said_by_another:
        return exit_code
    if "--debug" in words:
        traceback.print_exception(error)
    complain(message, exit_code=exit_code)
    if "--json" in words:
        emit("error", {"error": message, "exit_code": exit_code})
    return exit_code


def described(error: BaseException) -> tuple[str, int]:
    """Return message and exit code of an error (the codes are those of docs/cli.md)."""
    if not isinstance(error, OutOfMemoryError) and (lack := lack_of_memory(error)) is not None:
        advice = (
            "Try accumulate=4 (the same batch, in parts), batch=8, --device cpu or a smaller --n"
        )
        return f"out of memory: {lack}. {advice}", 5
    if isinstance(error, GancompressError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if type(error).__name__ == "PreemptedError":
        return f"{error}; go on with --resume auto and the same words", 75
    name, text = type(error).__name__, str(error)
    if isinstance(error, OSError) and error.errno in _GONE:
        advice = "Bring it back and go on with --resume, or choose another folder with --out"
        return f"a file, a folder or its disk is gone: {text}. {advice}", 6
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"cannot write: {text}. Free space or choose another folder with --out", 6
    return f"{name}: {text}. This is a bug of gancompress: run again with --debug to see where", 1
