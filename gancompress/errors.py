"""Errors that a user can act on, each with the exit code of the command line (docs/cli.md)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class GancompressError(Exception):
    """Base of every failure that is the input's fault, not a bug of ours.

    The message says what failed, the value, and what to do.
    """

    exit_code: int = 2
    said_by_another: bool = False  # another rank prints it

    def __str__(self) -> str:
        return visible(super().__str__())


_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return ``text`` with control characters and changes of direction written out (ours).

    Names and texts from files reach a terminal: an escape sequence in one could move its cursor,
    change its title, or make a line read as another. Line breaks and tabs stay.
    """
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


class ConfigError(GancompressError):
    """A recipe, an argument or a name is wrong (exit code 2)."""

    exit_code = 2


class GraphError(GancompressError):
    """The generator cannot be traced, masked or cut as asked (exit code 2)."""

    exit_code = 2


class DataError(GancompressError):
    """Images, labels or latents do not fit the networks (exit code 3)."""

    exit_code = 3


class CheckpointError(GancompressError):
    """A file is corrupt, truncated, untrusted or made for another network (exit code 4)."""

    exit_code = 4


class OutOfMemoryError(GancompressError):
    """Memory ran out after the retries (exit code 5)."""

    exit_code = 5


class StorageError(GancompressError):
    """The disk is full or the output folder cannot be written (exit code 6)."""

    exit_code = 6


class DivergedError(GancompressError):
    """Training went non-finite and rolling back did not help (exit code 7)."""

    exit_code = 7


class TargetError(GancompressError):
    """A size, exactness or tolerance target cannot be met (exit code 8)."""

    exit_code = 8


class RanksError(GancompressError):
    """Another process of a distributed run failed, is silent, or differs (exit code 75).

    The run can go on from its last checkpoint.
    """

    exit_code = 75


_NO_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "bad_alloc", "alloc_failed",
)  # fmt: skip


def lack_of_memory(error: BaseException | None) -> str | None:
    """Return what said that memory ran out: the error, or one that led to it; ``None``: neither."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = str(error).lower()
        known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        says = isinstance(error, RuntimeError | OSError | ImportError)
        if known or (says and any(word in text for word in _NO_MEMORY)):
            return " ".join(f"{error or type(error).__name__}".split())[:300]
        error = error.__cause__ or error.__context__
    return None


def closest(name: str, names: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``names``; all of them if none is near."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""
