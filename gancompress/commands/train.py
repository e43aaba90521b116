"""``gancompress train``: train a generator from nothing, a teacher."""

from __future__ import annotations

from typing import Any

from gancompress.commands.request import Request
from gancompress.commands.run import run


def train(**options: Any) -> int:
    """Run a recipe of kind train and return the exit code; ``options`` are the verb's flags.

    Raises:
        GancompressError: anything the user can put right.
    """
    return run(Request.typed("train", options))
