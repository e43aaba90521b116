"""Two consoles, results on stdout and everything else on stderr, and the JSON form of a result."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

SCHEMA = 1
"""Version of every JSON object that the command line prints."""

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Keep ``note`` silent from now on (``--quiet``)."""
    global _quiet
    _quiet = quiet


def stdout() -> Console:
    """Return the console of results; plain when ``NO_COLOR`` is set or stdout is not a terminal."""
    return Console(file=sys.stdout, highlight=False)


def stderr() -> Console:
    """Return the console of progress, notes and errors."""
    return Console(file=sys.stderr, highlight=False)


def note(message: str) -> None:
    """Say one line on stderr."""
    if not _quiet:
        stderr().print(escape(message), style="dim", soft_wrap=True)


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
