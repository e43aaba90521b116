"""Which line of the user's code is running, or has failed: the one definition of "the user's".

Not the user's are torch and the plumbing beside it, Python's own library, generated code, and all
of gancompress but its models, which are traced like anybody's.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_MODELS = os.path.join(_OURS, "models") + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_PYTHON = tuple(
    os.path.abspath(path) + os.sep
    for name in ("stdlib", "platstdlib")
    if (path := sysconfig.get_paths().get(name))
)
_SITES = ("site-packages", "dist-packages")
# They hand the user's calls on to torch, or wrap them; a line of theirs tells the user nothing.
_PLUMBING = {"torch", "functorch", "torchgen", "numpy", "einops", "opt_einsum", "triton",
             "jaxtyping", "beartype", "typeguard", "decorator", "wrapt"}  # fmt: skip
# Objects of these packages hold machinery, not the state of a forward.
_MACHINERY = {"torch", "numpy", "gancompress", *sys.stdlib_module_names} - {"__main__"}
# Names that Python gives to what was typed: a prompt, a notebook of old, `python -` and a doctest.
_TYPED = ("<stdin", "<python-input", "<ipython-input", "<console", "<doctest")
_TEXT = "<string>"  # of `python -c`, and of what exec() is given
_GENERATED = {"__init__", "__eq__", "__new__", "__repr__", "__create_fn__", "__hash__", "__lt__",
              "<lambda>"}  # fmt: skip
_CELL = re.compile(r"[\\/]ipykernel_\d+[\\/]")


@functools.cache
def is_users_file(file: str) -> bool:
    """Return whether code of this file name is the user's (ours).

    Code that was typed, or given by ``python -c``, is; code that a library generates is not.
    """
    if file.startswith("<"):
        return file.startswith((_TEXT, *_TYPED))
    path = os.path.abspath(file)
    if path.startswith(_OURS):
        return path.startswith(_MODELS)
    parts = path.split(os.sep)
    sites = [i for i, part in enumerate(parts[:-1]) if part in _SITES]
    if sites:
        package = parts[sites[-1] + 1].removesuffix(".py")
        return package not in _PLUMBING
    return not path.startswith((_TORCH, *_PYTHON))


def is_installed(file: str) -> bool:
    """Return whether a file belongs to an installed package, the user's or not."""
    return any(part in _SITES for part in file.split(os.sep))


def is_machinery(kind: type) -> bool:
    """Return whether a class is torch's, NumPy's, Python's own or ours."""
    if kind.__module__.split(".")[0] not in _MACHINERY:
        return False
    # A script of the user's may be called test.py or code.py, as a module of Python's is.
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is None or not is_users_file(file)


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


def failing_stack(error: BaseException) -> list[int]:
    """Return the line numbers of a traceback that are the user's, the innermost last."""
    return [n for frame, n in traceback.walk_tb(error.__traceback__) if _line(frame, n)]


def line_in(stack: str) -> str:
    """Return the innermost line of a printed stack that is the user's."""
    for file, number, name in reversed(re.findall(r'File "(.+)", line (\d+), in (.+)', stack)):
        if is_users_file(file) and not (file == _TEXT and name in _GENERATED):
            return _written(file, int(number), name)
    return ""


def _line(frame: FrameType, number: int) -> str:
    """Return the user's line of a frame: its own, or the one behind a line of a graph form."""
    code = frame.f_code
    if code.co_filename.startswith("<eval_with_key>"):
        line_of = getattr(frame.f_locals.get("self"), "line_of", None)
        return line_of(number) if line_of is not None else ""
    if not is_users_file(code.co_filename) or _is_generated(code, frame.f_globals):
        return ""
    return _written(code.co_filename, number, code.co_name)


def _is_generated(code: Any, space: Mapping[str, Any]) -> bool:
    """Return whether a text was executed for a module that has a file, as dataclasses do."""
    if code.co_filename != _TEXT:
        return False
    return "__file__" in space or code.co_name in _GENERATED


def _written(file: str, number: int, name: str) -> str:
    place = "<notebook cell>" if _CELL.search(file) else os.path.basename(file) or file
    return f"{place}:{number} in {name}"
