"""``gancompress distill``: teach a generator of fixed, smaller shape."""

from __future__ import annotations

from typing import Any

from gancompress.commands.request import Request
from gancompress.commands.run import run


def distill(**options: Any) -> int:
    """Run a recipe of kind distill and return the exit code; ``options`` are the verb's flags.

    Raises:
        GancompressError: anything the user can put right.
    """
    return run(Request.typed("distill", options))
