"""Gated modules that are asked for their class: ``super(self.__class__, self).forward(x)``.

torch gives a parametrized module a class of its own, below the user's. A ``super`` that is asked
with the class of ``self`` then finds the user's method again, and again. Ours.
"""

from __future__ import annotations

import copy
import dis
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from torch import nn

from gancompress.errors import GraphError
from gancompress.modules.outside import names_used
from gancompress.modules.user_line import is_users_file


def refuse_endless_super(module: nn.Module, path: str) -> None:
    """Refuse a class that calls ``super(type(self), self)``, which has no end in a subclass.

    Raises:
        GraphError: names the class, the method and what to write instead.
    """
    for method in _methods(type(module)):
        names = [i.argval for i in dis.get_instructions(method) if i.opname == "LOAD_GLOBAL"]
        if ("super", "type") in zip(names, names[1:], strict=False):
            raise GraphError(
                f"{method.__qualname__} of {path or 'the generator'} calls super(type(self), "
                "self), which never ends once the module gets a class of its own, as all "
                "parametrized ones do: write super() there"
            )


def asks_for_classes(generator: nn.Module) -> bool:
    """Whether code of the user's asks a module for its class: itself, or one of its children."""
    kinds = {type(sub) for sub in generator.modules()}
    return "__class__" in names_used(generator) or any(
        "__class__" in method.__code__.co_names for kind in kinds for method in _methods(kind)
    )


def answer_with_users_class(module: nn.Module) -> None:
    """Let ``module.__class__`` of a parametrized module be the user's class (or torch's own)."""
    kind = type(module)
    if isinstance(vars(kind).get("__class__"), property):
        return
    members = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
    members["__class__"] = property(_users_class, _set_class)
    members["__deepcopy__"] = _deepcopy
    _set_class(module, type(kind)(kind.__name__, kind.__bases__, members))  # type: ignore[call-arg]


def _methods(kind: type) -> Iterator[FunctionType]:
    """Yield what the user's classes define and a call may run."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] not in ("torch", "builtins"):
            for name, value in vars(base).items():
                if isinstance(value, FunctionType) and name != "__init__":
                    yield value


def _users_class(module: Any) -> type:
    """Return the user's class to code of the user's, the true one to all other.

    torch puts properties on the class that it is told: on the user's, or its own, they would stay.
    """
    asker = sys._getframe(1).f_code.co_filename
    return type(module).__bases__[0] if is_users_file(asker) else type(module)


def _set_class(module: Any, kind: type) -> None:
    object.__dict__["__class__"].__set__(module, kind)


def _deepcopy(module: Any, memo: dict[int, Any]) -> Any:
    """Copy as torch copies parametrized modules, by the true class."""
    if id(module) not in memo:
        made = memo[id(module)] = object.__new__(type(module))
        made.__dict__ = copy.deepcopy(module.__dict__, memo)
    return memo[id(module)]
