"""Which line of the user's code is running, or has failed."""

from __future__ import annotations

import os
import sys
import traceback

import torch

_TORCH = os.path.dirname(torch.__file__)
# Our engine never is the user's code; our models are traced like anybody's.
_ENGINE = tuple(
    os.path.join(os.path.dirname(os.path.dirname(__file__)), part) for part in ("graph", "surgery")
)


def _theirs(file: str) -> bool:
    return not file.startswith((_TORCH, *_ENGINE, "<")) and not file.endswith("contextlib.py")


def user_frame() -> str:
    """Return ``file.py:88 in forward`` for the innermost running frame that is the user's."""
    frame = sys._getframe(1)
    while frame is not None:
        if _theirs(frame.f_code.co_filename):
            code = frame.f_code
            return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
        frame = frame.f_back
    return ""


def failing_line(error: BaseException) -> str:
    """Return the innermost line of a traceback that is the user's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _theirs(frame.filename):
            return f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
    return ""
