"""``gancompress prune``: learn which channels can go, cut them, verify the smaller generator."""

from __future__ import annotations

from typing import Any

from gancompress.commands.request import Request
from gancompress.commands.run import run


def prune(**options: Any) -> int:
    """Run a recipe of kind prune and return the exit code; ``options`` are the verb's flags.

    Raises:
        GancompressError: anything the user can put right.
    """
    return run(Request.typed("prune", options))
