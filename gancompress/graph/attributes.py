"""Numbers that modules keep in Python: their attributes, and those of configs that they hold.

A name is the way from the module: ``ch``, ``config.width``, ``cfg[width]``, ``channels[64]``,
``blocks[0].width``. A flat tuple, list, `torch.Size` or NumPy array of integers is one number with
several items; a NumPy integer or a tensor without dimensions is a number like an int. Attributes
of the user's classes count as those of their instances.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

_DEPTH = 3  # a config inside a config is followed so far
_ITEMS = 64  # longer lists are data
_STEP = re.compile(r"(?:^|\.)(\w+)|\[(\w+)\]")
_KEY = re.compile(r"\w+")
_OWN = {*vars(nn.Module()), "_version", "_reversed_padding_repeated_twice"}
_COUNTERS = {"num_batches_tracked", "n_averaged"}


def numbers_in(sub: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each integer, and each sequence of integers, of one module."""
    if isinstance(sub, torch.jit.ScriptModule):
        return
    for name, value in {**_class_numbers(sub), **vars(sub)}.items():
        if _is_torchs(sub, name):
            continue
        if is_number(value):
            yield name, value
        elif is_config(value):
            yield from _inside(name, value, _DEPTH - 1)


def tensor_numbers(module: nn.Module) -> Iterator[tuple[str, str, int]]:
    """Yield path, name and value of each integer that is kept as a tensor without dimensions."""
    for path, sub in module.named_modules():
        if isinstance(sub, torch.jit.ScriptModule):
            continue
        for store in (vars(sub), sub._buffers):
            for name, value in store.items():
                if name not in _COUNTERS and not _is_torchs(sub, name) and _is_scalar(value):
                    yield path, name, int(value)  # type: ignore[arg-type]


def _is_torchs(sub: nn.Module, name: str) -> bool:
    """Whether an attribute is torch's or ours, and no size of the user's: ``_ch`` is one."""
    if not name.startswith("_"):
        return name in _OWN
    kind = type(sub).__module__.partition(".")[0]
    return name in _OWN or name.startswith(("__", "_gancompress")) or kind == "torch"


def is_number(value: Any) -> bool:
    """Whether ``value`` is an integer, or a flat sequence of nothing else."""
    if isinstance(value, (int, np.integer)):
        return not isinstance(value, bool)
    if isinstance(value, np.ndarray):
        return (
            value.ndim == 1
            and 0 < value.size <= _ITEMS
            and (
                value.dtype.kind in "iu" or all(isinstance(v, int) for v in value)  # planted
            )
        )
    if type(value) not in (tuple, list, torch.Size) or not value:
        return False
    return all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in value)


def is_config(value: Any) -> bool:
    """Whether ``value`` is a dict, a short list or an object that may hold sizes."""
    if isinstance(value, (nn.Module, torch.Tensor, np.ndarray, type, str, bytes)):
        return False
    if isinstance(value, (tuple, list)):
        return len(value) <= _ITEMS
    if callable(value) or (not isinstance(value, dict) and not hasattr(value, "__dict__")):
        return False
    if type(value).__module__.split(".")[0] == "torch":
        return False
    try:
        return copy.copy(value) is not value  # a logger, say, is the same one everywhere
    except Exception:
        return False


def number_at(sub: nn.Module, name: str) -> Any:
    """Return the value behind ``name`` as an int, tuple or list; None where there is nothing."""
    first, *rest = _steps(name)
    holder = _held(sub, first)
    for step in rest:
        holder = _items(holder).get(step)
    return _plain(holder)


def write_number(root: nn.Module, path: str, name: str, value: Any) -> None:
    """Set one number below ``root``, in the kind that it has there (a NumPy integer stays one).

    A config is replaced by a changed copy in all its holders: the one that the user made is left
    as it is, for other networks may have been built from it.
    """
    sub = root.get_submodule(path)
    first, *rest = _steps(name)
    old = _held(sub, first)
    for step in rest:
        old = _items(old).get(step)
    put_number(root, path, name, _of_kind(old, value))


def put_number(root: nn.Module, path: str, name: str, value: Any) -> None:
    """Set one number below ``root`` as it is given; otherwise as `write_number`."""
    sub = root.get_submodule(path)
    first, *rest = _steps(name)
    if not rest:
        setattr(sub, first, value)
        return
    old = _held(sub, first)
    new = _changed(old, rest, value)
    if first not in vars(sub):
        setattr(sub, first, new)
    for module in root.modules():
        for key, held in vars(module).items():
            if held is old:
                vars(module)[key] = new


def _class_numbers(sub: nn.Module) -> dict[str, Any]:
    """Return the integers that the user's classes give to all their instances."""
    found: dict[str, Any] = {}
    for kind in reversed(type(sub).__mro__):
        if kind.__module__.partition(".")[0] not in ("torch", "builtins"):
            found.update({k: v for k, v in vars(kind).items() if is_number(v)})
    return found


def _inside(prefix: str, holder: Any, deeper: int) -> Iterator[tuple[str, Any]]:
    for key, value in list(_items(holder).items()):
        if key.startswith("__"):
            continue
        dotted = key.isidentifier() and not isinstance(holder, (dict, list))
        name = f"{prefix}.{key}" if dotted else f"{prefix}[{key}]"
        if is_number(value):
            yield name, value
        elif deeper and is_config(value):
            yield from _inside(name, value, deeper - 1)


def _held(sub: nn.Module, name: str) -> Any:
    if name in vars(sub):
        return vars(sub)[name]
    return sub._buffers.get(name, _class_numbers(sub).get(name))


def _changed(holder: Any, steps: Sequence[str], value: Any) -> Any:
    """Return a copy of ``holder`` with one number changed, and copies on the way to it."""
    first = steps[0]
    if len(steps) > 1:
        value = _changed(_items(holder)[first], steps[1:], value)
    if isinstance(holder, tuple):
        if hasattr(holder, "_fields"):
            return holder._replace(**{first: value})  # type: ignore[attr-defined]
        return tuple(value if str(i) == first else v for i, v in enumerate(holder))
    new = copy.copy(holder)
    if isinstance(new, list):
        new[int(first)] = value
    if isinstance(new, dict):
        # A frozen dict refuses, and an easy one has both.
        dict.__setitem__(new, first if first in new else int(first), value)
    if first in getattr(new, "__dict__", {}):
        vars(new)[first] = value
    return new


def _steps(name: str) -> list[str]:
    return [plain or keyed for plain, keyed in _STEP.findall(name)]


def _items(holder: Any) -> dict[str, Any]:
    """Return what a config holds by the text of its keys; keys that no name can have are left."""
    if isinstance(holder, tuple) and hasattr(holder, "_fields"):
        return holder._asdict()  # type: ignore[attr-defined]
    if isinstance(holder, (list, tuple)):
        return {str(i): v for i, v in enumerate(holder)}
    if not isinstance(holder, dict):
        return getattr(holder, "__dict__", {})
    found: dict[str, Any] = {}
    for key, value in holder.items():
        whole = isinstance(key, int) and not isinstance(key, bool) and key >= 0
        if (whole or isinstance(key, str)) and _KEY.fullmatch(str(key)):
            found.setdefault(str(key), value)
    return found


def _is_scalar(value: Any) -> bool:
    if type(value) is not torch.Tensor or value.dim() or value.is_meta:
        return False
    return not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool


def _plain(value: Any) -> Any:
    if isinstance(value, np.integer) or _is_scalar(value):
        return int(value)
    if isinstance(value, np.ndarray):
        return [int(v) for v in value]
    if type(value) in (tuple, list, torch.Size) and is_number(value):
        items = [int(v) if isinstance(v, np.integer) else v for v in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _of_kind(old: Any, value: Any) -> Any:
    """Return ``value`` as the kind of number that ``old`` is."""
    if isinstance(old, np.integer):
        return type(old)(value)
    if isinstance(old, np.ndarray):
        return np.asarray(value, dtype=old.dtype)
    if isinstance(old, torch.Tensor):
        made = torch.full((), value, dtype=old.dtype)
        mode = getattr(old, "fake_mode", None)  # a fake one knows its value only if it was real
        return made.to(old.device) if mode is None else mode.from_tensor(made)
    if isinstance(old, torch.Size):
        return torch.Size(value)
    if type(old) in (tuple, list) and type(value) in (tuple, list):
        items = [_of_kind(o, v) for o, v in zip(old, value, strict=False)]
        return type(old)(items) if len(items) == len(value) else value
    return value
