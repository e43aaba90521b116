"""What code reaches outside of a module: globals, closures, cached functions.

Published generators keep state there: grids of a warp in a dict of the file, a counter declared
``global``, windows behind ``functools.lru_cache``, and hooks of the user's collect features in a
list. Numbers of ours (fake, or float64) left in them would break the user's next call.
"""

from __future__ import annotations

import dis
import functools
import gc
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gancompress.modules.user_line import is_installed, is_machinery, is_users_file

_MISSING = object()
_CODE = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
_CACHED = type(functools.lru_cache(len))
_START = ("forward", "__call__", "right_inverse")


@dataclass
class Outside:
    """What was found: names in namespaces, cells of closures, caches, and the user's classes.

    ``used`` are all names in the code, those of attributes among them.
    """

    names: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    cells: list[types.CellType] = field(default_factory=list)
    caches: list[Any] = field(default_factory=list)
    kinds: list[type] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def values(self) -> list[Any]:
        """What the names and cells hold now."""
        held = [space[name] for space, name in self.names if name in space]
        return held + [cell.cell_contents for cell in self.cells if _filled(cell)]

    def undos(self) -> Iterator[Callable[[bool], bool]]:
        """Yield what puts each of them back; see `snapshot.Undo`."""
        for space, name in self.names:
            yield _name_undo(space, name)
        for cell in filter(_filled, self.cells):
            yield _cell_undo(cell)
        for cache in self.caches:
            yield _cache_undo(cache)


def outside(what: type | Callable[..., Any]) -> Outside:
    """Return what calls of a function, or of instances of a class, can reach (ours).

    That is read from the names in their code: of a module its forward and the methods that it
    names, of other classes all functions; from there the functions and classes of the user's that
    they name, and so on.
    """
    if isinstance(what, type):
        hashes = type(what).__hash__ is type.__hash__
        return _of_class(what) if hashes else _of_class.__wrapped__(what)
    walk = _Walk(type(getattr(what, "__self__", None)))
    walk.homes.add(_package(what))
    walk.follow(what)
    walk.run()
    return walk.found


@functools.lru_cache(maxsize=1024)
def _of_class(kind: type) -> Outside:
    """Read the code of a class once: libraries lead from one function to hundreds."""
    walk = _Walk(kind)
    own = [n for base in kind.__mro__ for n in vars(base)]
    for name in _START if issubclass(kind, nn.Module) else own:
        walk.method(name)
    walk.run()
    return walk.found


def names_used(module: nn.Module) -> set[str]:
    """Return the names in the code of the user's that a forward of ``module`` runs."""
    # By all bases: a parametrized layer has a class that is torch's, below the user's.
    kinds = {kind for part in module.modules() for kind in type(part).__mro__}
    return {n for kind in kinds if not is_machinery(kind) for n in outside(kind).used}


class _Walk:
    def __init__(self, kind: type) -> None:
        self.kind, self.found = kind, Outside()
        # Of installed packages only those that the code itself is of: a forward that logs or
        # asserts would lead through a whole logger or test runner, with all that they hold.
        self.homes = {_package(base) for base in kind.__mro__}
        self._todo: list[types.FunctionType] = []
        self._seen: set[Any] = set()

    def method(self, name: str) -> None:
        """Follow what the class itself calls by this name."""
        for base in self.kind.__mro__:
            if name in vars(base):
                self.follow(vars(base)[name])
                return

    def run(self) -> None:
        """Read the code of all functions that were found, and of those that they name."""
        while self._todo:
            function = self._todo.pop()
            names, stored = _names(function.__code__)
            self.found.used.update(names)
            space = function.__globals__
            for name in names:
                self.method(name)
                if name in space or name in stored:
                    self._name(space, name, names)
            for cell in function.__closure__ or ():
                if _filled(cell) and not self.follow(cell.cell_contents, names):
                    self.found.cells.append(cell)

    def _name(
        self, space: dict[str, Any], name: str, names: tuple[str, ...], *, state: bool = True
    ) -> None:
        if (key := (id(space), name, state)) in self._seen:
            return
        self._seen.add(key)
        if not self.follow(space.get(name, _MISSING), names) and state:
            self.found.names.append((space, name))

    def follow(self, value: Any, names: tuple[str, ...] = ()) -> bool:
        """Go on into code and modules; return False for what may be state."""
        if isinstance(value, staticmethod | classmethod | types.MethodType):
            value = value.__func__
        if isinstance(value, property):
            value = value.fget
        if isinstance(value, functools.cached_property):
            value = value.func
        if isinstance(value, functools.partial):
            value = value.func
        # By type: an object of the user's may answer to any attribute that it is asked for.
        if isinstance(value, _CACHED):
            if id(value) not in self._seen:
                self._seen.add(id(value))
                self.found.caches.append(value)
            self.follow(value.__wrapped__, names)
            return True
        if isinstance(value, types.FunctionType):
            self._function(value)
            return True
        if isinstance(value, types.ModuleType):
            file = vars(value).get("__file__") or "<frozen>"
            for name in names if is_users_file(file) else ():
                # What an installed package keeps for itself its own functions lead to, or nobody.
                if name in vars(value):
                    self._name(vars(value), name, names, state=not is_installed(file))
            return True
        if isinstance(value, type):
            # By id: a metaclass may compare and hash its classes as it likes.
            if id(value) not in self._seen and self._ours(value):
                self._seen.add(id(value))
                self.found.kinds.append(value)
            return True
        return isinstance(value, _CODE)

    def _ours(self, code: Any) -> bool:
        """Whether a function or class is of the user's files, or of a package at home here."""
        package = _package(code)
        if package in self.homes:
            return True
        file = getattr(sys.modules.get(getattr(code, "__module__", None) or ""), "__file__", None)
        return not is_installed(file or "<frozen>")

    def _function(self, function: types.FunctionType) -> None:
        while function not in self._seen:
            self._seen.add(function)
            if is_users_file(function.__code__.co_filename) and self._ours(function):
                self._todo.append(function)
            inner = getattr(function, "__wrapped__", None)
            if not isinstance(inner, types.FunctionType):
                return
            function = inner


def _package(code: Any) -> str:
    return str(getattr(code, "__module__", None) or "").partition(".")[0]


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names that a code and those inside of it use, and the globals that they set."""
    names = dict.fromkeys(code.co_names)
    stored = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL"}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more, also = _names(inner)
            names |= dict.fromkeys(more)
            stored |= also
    return tuple(names), frozenset(stored)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _name_undo(space: dict[str, Any], name: str) -> Callable[[bool], bool]:
    saved = space.get(name, _MISSING)

    def undo(dry: bool) -> bool:
        now = space.get(name, _MISSING)
        # A kernel that was compiled and imported meanwhile would be compiled again.
        if now is saved or isinstance(now, _CODE):
            return False
        if not dry and saved is _MISSING:
            del space[name]
        elif not dry:
            space[name] = saved
        return True

    return undo


def _cell_undo(cell: types.CellType) -> Callable[[bool], bool]:
    saved = cell.cell_contents

    def undo(dry: bool) -> bool:
        if _filled(cell) and cell.cell_contents is saved:
            return False
        if not dry:
            cell.cell_contents = saved
        return True

    return undo


def _cache_undo(cache: Any) -> Callable[[bool], bool]:
    """Empty a cache that took in tensors: they were made of our numbers, and are made anew."""
    before = cache.cache_info().misses

    def undo(dry: bool) -> bool:
        if cache.cache_info().misses == before or not _holds_tensors(cache):
            return False
        if not dry:
            cache.cache_clear()
        return True

    return undo


def _holds_tensors(cache: Any) -> bool:
    """Return whether a cache holds tensors; True where Python does not let one look inside."""
    if sys.implementation.name != "cpython":
        return True
    todo, depth = [cache], 0
    while todo and depth < 5:
        todo, depth = gc.get_referents(*todo), depth + 1
        if any(isinstance(item, torch.Tensor) for item in todo):
            return True
        # The links of a cache of bounded size are a type without a public name.
        todo = [i for i in todo if isinstance(i, tuple | list | dict)
                or type(i).__name__ == "_lru_list_elem"]  # fmt: skip
    return False
