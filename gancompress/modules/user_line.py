"""Which line of the user's code is running, or has failed."""

from __future__ import annotations

import os
import re
import sys
import traceback
from types import FrameType

import torch

_TORCH = os.path.dirname(torch.__file__)
# Our engine never is the user's code; our models are traced like anybody's.
_ENGINE = tuple(
    os.path.join(os.path.dirname(os.path.dirname(__file__)), part)
    for part in ("graph", "surgery", "modules")
)


def _theirs(file: str) -> bool:
    return not file.startswith((_TORCH, *_ENGINE, "<")) and not file.endswith("contextlib.py")


def user_frame() -> str:
    """Return ``file.py:88 in forward`` for the innermost running frame that is the user's."""
    frame = sys._getframe(1)
    while frame is not None:
        if line := _line(frame, frame.f_lineno):
            return line
        frame = frame.f_back
    return ""


def failing_line(error: BaseException) -> str:
    """Return the innermost line of a traceback that is the user's."""
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        if line := _line(frame, number):
            return line
    return ""


def _line(frame: FrameType, number: int) -> str:
    """Return the user's line of a frame: its own, or the one behind a line of a graph form."""
    code = frame.f_code
    if code.co_filename.startswith("<eval_with_key>"):
        line_of = getattr(frame.f_locals.get("self"), "line_of", None)
        return line_of(number) if line_of is not None else ""
    if not _theirs(code.co_filename):
        return ""
    return f"{os.path.basename(code.co_filename)}:{number} in {code.co_name}"


def line_in(stack: str) -> str:
    """Return the innermost line of a printed stack that is the user's."""
    for file, number, name in reversed(re.findall(r'File "(.+)", line (\d+), in (.+)', stack)):
        if _theirs(file):
            return f"{os.path.basename(file)}:{number} in {name}"
    return ""
