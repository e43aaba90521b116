"""The whole state of a network, beyond its buffers, remembered and put back."""

from __future__ import annotations

import argparse
import collections
import enum
import functools
import random
import threading
import types
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gancompress.modules.outside import outside
from gancompress.modules.user_line import is_machinery

_ATOMS = (int, float, complex, str, bytes, bool, type(None), type, torch.dtype, torch.device,
          torch.Size, types.FunctionType, types.MethodType, types.BuiltinFunctionType,
          types.ModuleType, enum.Enum, range, slice)  # fmt: skip
_PLAIN = {int, float, complex, str, bytes, bool, type(None)}
_CALLS = {types.FunctionType, types.MethodType, functools.partial}
_DICTS = {dict, collections.OrderedDict}
_HOLDERS = (argparse.Namespace, types.SimpleNamespace, collections.UserDict, collections.UserList,
            collections.ChainMap, threading.local)  # fmt: skip
"""Python's own classes whose attributes are whatever the user put there."""
_DESCRIPTORS = (types.FunctionType, classmethod, staticmethod, property, type)


class Snapshot:
    """The state of some modules, to be put back: to the identity of what attributes hold (ours).

    Covers every attribute of every submodule, with lists, dicts, sets, dataclasses and objects
    behind them, data attributes of the modules' classes, classes, flags and hooks, the random
    number generators kept as attributes and, with ``values``, the numbers in buffers and other
    tensors. Of parameters it keeps the storage, and the numbers of those that are vectors:
    hand-written spectral norms write to them in any mode.

    Args:
        modules: whose state to remember.
        values: remember the numbers in tensors as well, not only which tensors there are.
        beside: also what the code of the modules and of their hooks keeps in globals, closures and
            cached functions (`outside`).
    """

    def __init__(self, *modules: nn.Module, values: bool = True, beside: bool = False) -> None:
        self._values, self._outside = values, beside
        self._seen: dict[int, Any] = {}  # with the objects, so that an id stays its own
        self._structure: list[Undo] = []
        self._empty: list[dict[Any, Any]] = []
        self._random: list[Callable[[], None]] = []
        self._numbers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._stores: list[tuple[torch.Tensor, torch.Tensor]] = []
        for module in modules:
            for part in module.modules():
                self._visit(part)

    def restore(self) -> None:
        """Put everything back; what has not changed is not touched."""
        for store in self._empty:
            if store:
                store.clear()
        for undo in self._structure:
            undo(False)
        for reset in self._random:
            reset()
        with torch.no_grad():
            for tensor, store in self._stores:
                if tensor.data_ptr() != store.data_ptr() or tensor.shape != store.shape:
                    tensor.data = store
            for tensor, old in self._numbers:
                # Through .data, and only where it must be: an earlier forward may still need the
                # tensor for its backward.
                if not torch.equal(tensor, old):
                    tensor.data.copy_(old)

    def rebound(self) -> bool:
        """Whether an attribute, a list, a counter ... holds something else by now."""
        return any(self._empty) or any(undo(True) for undo in self._structure)

    def rewritten(self) -> bool:
        """Whether the numbers in some tensor are others by now."""
        return any(not torch.equal(tensor, old) for tensor, old in self._numbers)

    def _visit(self, value: Any) -> None:
        todo = [value]
        while todo:
            item = todo.pop()
            kind = type(item)
            if kind in _PLAIN or id(item) in self._seen:
                continue
            self._seen[id(item)] = item
            if kind in _DICTS and not item:
                self._empty.append(item)  # most dicts of a module: its hooks
            elif isinstance(item, nn.Module):
                todo += self._attributes(item)
            elif kind in _DICTS:
                todo += item.values()
                self._structure.append(_dict_undo(item))
            elif isinstance(item, torch.Tensor):
                self._tensor(item)
            elif kind in _CALLS:
                todo += self._function(item)
            elif not isinstance(item, _ATOMS):
                todo += self._remember(item)

    def _remember(self, item: Any) -> list[Any]:
        """Note how to put back one object that is no module; return what it holds."""
        if (reset := _random_state(item)) is not None:
            self._random.append(reset)
            return []
        if isinstance(item, np.ndarray):
            if self._values:
                self._structure.append(_array_undo(item))
            return []
        if isinstance(item, weakref.WeakKeyDictionary | weakref.WeakValueDictionary):
            return [vars(item)["data"]]
        held: list[Any] = []
        if isinstance(item, tuple | frozenset):
            held += item
        elif isinstance(item, dict):
            held += dict.values(item)
            self._structure.append(_dict_undo(item))
        elif isinstance(item, list | set | collections.deque | bytearray):
            held += [] if isinstance(item, bytearray) else item
            self._structure.append(_items_undo(item))
        if isinstance(item, _HOLDERS) or not is_machinery(type(item)):
            held += self._attributes(item)
        return held

    def _attributes(self, item: Any) -> list[Any]:
        held: list[Any] = []
        own = getattr(item, "__dict__", None)
        if isinstance(own, dict) and own is not item:
            held += own.values()
            self._structure.append(_object_undo(item, own))
        held += self._class(type(item))
        for name in _slots(type(item)):
            held += [getattr(item, name)] if hasattr(item, name) else []
            self._structure.append(_slot_undo(item, name))
        return held

    def _class(self, made: type) -> list[Any]:
        """Note the data of a class, and what its code reaches beside; return what they hold."""
        held: list[Any] = []
        for kind in made.__mro__:
            if id(kind) in self._seen or is_machinery(kind):
                continue
            self._seen[id(kind)] = kind
            data = _class_data(kind)
            held += data.values()
            self._structure.append(_class_undo(kind, data))
            held += self._beside(kind) if self._outside else []
        return held

    def _function(self, item: Any) -> list[Any]:
        """Note what a hook, or a function kept as an attribute, reaches; return what that holds."""
        if not self._outside:
            return []
        if isinstance(item, functools.partial):
            return [item.func, *item.args, *item.keywords.values()]
        held, owner = self._beside(item), getattr(item, "__self__", None)
        if not is_machinery(type(owner)):
            held.append(owner)
        return held

    def _beside(self, code: Any) -> list[Any]:
        found = outside(code)
        self._structure += found.undos()
        held = found.values()
        for kind in found.kinds:
            held += self._class(kind)
        return held

    def _tensor(self, t: torch.Tensor) -> None:
        if t.is_meta or nn.parameter.is_lazy(t):
            return
        if isinstance(t, nn.Parameter):
            self._stores.append((t, t.data))
            if t.numel() > max((*t.shape, 1)):
                return
        if self._values and t.layout == torch.strided:
            self._numbers.append((t, t.detach().clone()))


Undo = Callable[[bool], bool]
"""Puts one thing back; called with True it only looks. Returns whether the thing had changed."""


def same_items(now: Sequence[Any], saved: Sequence[Any]) -> bool:
    """Return whether both hold the very same objects in the same order."""
    return len(now) == len(saved) and all(a is b for a, b in zip(now, saved, strict=True))


def _dict_undo(store: dict[Any, Any], derived: Collection[str] = ()) -> Undo:
    kind: Any = collections.OrderedDict if isinstance(store, collections.OrderedDict) else dict
    keys, values = list(kind.keys(store)), list(kind.values(store))

    def undo(dry: bool) -> bool:
        if same_items(list(kind.keys(store)), keys) and same_items(
            list(kind.values(store)), values
        ):
            return False
        if dry and derived:
            before, now = dict(zip(keys, values, strict=True)), dict(kind.items(store))
            return any(
                before.get(k, before) is not now.get(k, now)
                for k in before.keys() | now.keys() if k not in derived
            )  # fmt: skip
        if not dry:
            # The dict's own: frozen ones refuse, and others keep attributes for keys.
            kind.clear(store)
            for key, value in zip(keys, values, strict=True):
                kind.__setitem__(store, key, value)
        return True

    return undo


def _items_undo(store: Any) -> Undo:
    saved = list(store)

    def undo(dry: bool) -> bool:
        if isinstance(store, bytearray) and list(store) == saved:
            return False
        if not isinstance(store, bytearray) and same_items(list(store), saved):
            return False
        if not dry:
            store.clear()
            (store.update if isinstance(store, set) else store.extend)(saved)
        return True

    return undo


def _array_undo(array: np.ndarray) -> Undo:
    saved = array.copy()

    def undo(dry: bool) -> bool:
        if array.dtype.hasobject or array.tobytes() == saved.tobytes():
            return False
        if not dry:
            array[...] = saved
        return True

    return undo


def _object_undo(item: Any, own: dict[str, Any]) -> Undo:
    kind, undo_own = type(item), _dict_undo(own, _derived(item))

    def undo(dry: bool) -> bool:
        changed = type(item) is not kind
        if changed and not dry:
            item.__class__ = kind
        return undo_own(dry) or changed

    return undo


def _derived(item: Any) -> set[str]:
    """Return the attributes that torch's old norms of weights make anew before each forward."""
    hooks = item._forward_pre_hooks.values() if isinstance(item, nn.Module) else ()
    old = [h for h in hooks if type(h).__module__.startswith("torch.nn.utils.")]
    names = [getattr(h, "name", None) for h in old]
    return {name for name in names if isinstance(name, str)}


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    found: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return tuple(n for n in found if not n.startswith("__"))


def _slot_undo(item: Any, name: str) -> Undo:
    missing = object()
    saved = getattr(item, name, missing)

    def undo(dry: bool) -> bool:
        now = getattr(item, name, missing)
        if now is saved or dry:
            return now is not saved
        # Not setattr: a frozen dataclass refuses.
        if saved is missing:
            object.__delattr__(item, name)
        else:
            object.__setattr__(item, name, saved)
        return True

    return undo


def _class_data(kind: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith(("__", "_abc_")) and not isinstance(value, _DESCRIPTORS)
        and not hasattr(value, "__get__")
    }  # fmt: skip


def _class_undo(kind: type, saved: dict[str, Any]) -> Undo:
    def undo(dry: bool) -> bool:
        now = _class_data(kind)
        if now.keys() == saved.keys() and all(now[k] is v for k, v in saved.items()):
            return False
        for name in now.keys() - saved.keys() if not dry else ():
            delattr(kind, name)
        for name, value in saved.items() if not dry else ():
            setattr(kind, name, value)
        return True

    return undo


def _random_state(item: Any) -> Callable[[], None] | None:
    """Return what puts a random number generator back, None for anything else."""
    if isinstance(item, torch.Generator):
        before = item.get_state()
        return lambda: None if item.set_state(before) else None
    if isinstance(item, random.Random):
        state = item.getstate()
        return lambda: item.setstate(state)
    if isinstance(item, np.random.Generator):
        bits = item.bit_generator
        own = bits.state
        return lambda: setattr(bits, "state", own)
    if isinstance(item, np.random.RandomState):
        old = item.get_state()
        return lambda: item.set_state(old)
    return None
