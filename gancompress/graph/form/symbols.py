"""Let batch sizes pass for Python numbers in the user's code while it is exported (ours).

Export stands a symbol in for the batch size. ``isinstance(batch, int)`` and ``type(batch) is int``
would refuse it, and ``int(batch / 4)`` would fix the batch.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from gancompress.modules.user_line import is_users_file

_MOST = 3000  # name spaces: code that imports half the world is not walked to its end
_Space = dict[str, Any]


def _plain(x: Any) -> Any:
    """Return a number of the kind that a symbol stands for; anything else as it is."""
    if isinstance(x, torch.SymInt):
        return 2
    if isinstance(x, torch.SymFloat):
        return 2.0
    return True if isinstance(x, torch.SymBool) else x


def _isinstance(x: Any, kind: Any) -> bool:
    return isinstance(_plain(x), kind) or isinstance(x, kind)


class _Whole(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], (torch.SymInt, torch.SymFloat)):
            return torch.sym_int(args[0])
        return int(*args, **kwargs)

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(_plain(x), int)

    def __subclasscheck__(cls, kind: type) -> bool:
        return kind is cls or issubclass(kind, int)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is int

    def __hash__(cls) -> int:
        return hash(int)


class _Int(int, metaclass=_Whole):
    """``int`` for the user's code while it is exported."""


class _Kind(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs:
            return type(*args, **kwargs)
        kind = type(_plain(args[0]))
        return _Int if kind is int else kind

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, type)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, type)


class _Type(type, metaclass=_Kind):
    """``type`` for the user's code while it is exported."""


for _stand_in, _name in ((_Int, "int"), (_Type, "type")):
    _stand_in.__name__ = _stand_in.__qualname__ = _name


def _len(x: Any) -> Any:
    return x.shape[0] if isinstance(x, torch.Tensor) and x.dim() else len(x)


_ASKING = {"isinstance": _isinstance, "len": _len}
_TYPES = {"int": _Int, "type": _Type}


@contextlib.contextmanager
def numbers_stay_symbols(module: nn.Module, types: bool = True) -> Iterator[None]:
    """Put the stand-ins beside the module's classes and all code they use; take them away after.

    A name of a module is found before the builtin of that name. Only the user's code is touched:
    that of the classes, and of the files that these import.

    Args:
        module: that is exported.
        types: stand in for ``int`` and ``type`` too; torch refuses ``dtype=int`` then.
    """
    names = _ASKING | _TYPES if types else _ASKING
    changed: list[tuple[_Space, list[str]]] = []
    for space in _spaces(module):
        new = {name: value for name, value in names.items() if name not in space}
        changed.append((space, list(new)))
        space.update(new)
    try:
        yield
    finally:
        for space, mine in changed:
            for name in mine:
                del space[name]


def _spaces(module: nn.Module) -> list[_Space]:
    """Return the name spaces of the user's code that a module may run."""
    found: dict[int, _Space] = {}
    todo: list[_Space] = []
    for kind in {c for sub in module.modules() for c in type(sub).__mro__}:
        todo += _spaces_of(kind)
    while todo and len(found) < _MOST:
        space = todo.pop()
        if id(space) in found or not _is_users(space):
            continue
        found[id(space)] = space
        for value in list(space.values()):
            todo += _spaces_of(value)
    return list(found.values())


def _spaces_of(value: Any) -> list[_Space]:
    """Return the name spaces in which a module, a class or a function is written."""
    if isinstance(value, ModuleType):
        return [vars(value)]
    if isinstance(value, type):
        home = sys.modules.get(value.__module__)
        inside = [f.__globals__ for f in vars(value).values() if isinstance(f, FunctionType)]
        return [*([] if home is None else [vars(home)]), *inside]
    function = getattr(value, "__wrapped__", value)
    return [f.__globals__ for f in (value, function) if isinstance(f, FunctionType)]


def _is_users(space: _Space) -> bool:
    file = space.get("__file__")
    if isinstance(file, str):
        return is_users_file(file)
    name = str(space.get("__name__", ""))
    if name.partition(".")[0] in sys.stdlib_module_names and name != "__main__":
        return False
    return space is not vars(builtins) and not hasattr(space.get("__spec__"), "origin")
