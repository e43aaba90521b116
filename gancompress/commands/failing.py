"""How a failed command ends: one message, one exit code, a traceback only when asked for."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence

from gancompress.commands.console import complain, emit
from gancompress.errors import GancompressError

_NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO)


def fail(error: BaseException, words: Sequence[str]) -> int:
    """Say what went wrong, on stderr and for --json on stdout too; return the exit code."""
    message, exit_code = described(error)
    if "--debug" in words:
        traceback.print_exception(error)
    complain(message, exit_code=exit_code)
    if "--json" in words:
        emit("error", {"error": message, "exit_code": exit_code})
    return exit_code


def described(error: BaseException) -> tuple[str, int]:
    """Return message and exit code of an error (the codes are those of docs/cli.md)."""
    if isinstance(error, GancompressError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    name, text = type(error).__name__, str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"cannot write: {text}. Free space or choose another folder with --out", 6
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "out of memory" in text:
        return f"out of memory: {text}. Try batch=8 or a smaller --n", 5
    return f"{name}: {text}. This is a bug of gancompress: run again with --debug to see where", 1
