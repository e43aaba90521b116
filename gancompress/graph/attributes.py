"""Numbers that modules keep in Python: their attributes, and those of configs that they hold.

A name is the way from the module: ``ch``, ``config.width``, ``cfg[width]``, ``cfg.decoder[width]``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

_DEPTH = 2  # a config inside a config is followed, no deeper
_STEP = re.compile(r"(?:^|\.)(\w+)|\[(\w+)\]")


def numbers_in(sub: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each integer, and each tuple or list of integers, of one module."""
    for name, value in list(vars(sub).items()):
        if name.startswith("_") or name == "training":
            continue
        if is_number(value):
            yield name, value
        elif is_config(value):
            yield from _inside(name, value, _DEPTH - 1)


def is_number(value: Any) -> bool:
    """Whether ``value`` is an integer, or a tuple or list of nothing else."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    return type(value) in (tuple, list) and bool(value) and all(is_number(v) for v in value)


def is_config(value: Any) -> bool:
    """Whether ``value`` is a dict, or a plain object with attributes, that may hold sizes."""
    if isinstance(value, (nn.Module, torch.Tensor, type)) or callable(value):
        return False
    if not isinstance(value, dict) and not hasattr(value, "__dict__"):
        return False
    if type(value).__module__.split(".")[0] == "torch":
        return False
    try:
        return copy.copy(value) is not value  # a logger, say, is the same one everywhere
    except Exception:
        return False


def _inside(prefix: str, holder: Any, deeper: int) -> Iterator[tuple[str, Any]]:
    keyed = isinstance(holder, dict)
    for key, value in list((holder if keyed else vars(holder)).items()):
        if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
            continue
        name = f"{prefix}[{key}]" if keyed else f"{prefix}.{key}"
        if is_number(value):
            yield name, value
        elif deeper and is_config(value):
            yield from _inside(name, value, deeper - 1)


def number_at(sub: nn.Module, name: str) -> Any:
    """Return the value behind ``name``, or None where there is nothing of that name."""
    holder: Any = vars(sub)
    for step in _steps(name):
        holder = _items(holder).get(step)
    return holder


def write_number(root: nn.Module, path: str, name: str, value: Any) -> None:
    """Set one number below ``root``; a config is replaced by a changed copy in all its holders.

    The config that the user made is left as it is: other networks may have been built from it.
    """
    sub = root.get_submodule(path)
    first, *rest = _steps(name)
    if not rest:
        setattr(sub, first, value)
        return
    old = vars(sub)[first]
    new = _changed(old, rest, value)
    for module in root.modules():
        for key, held in vars(module).items():
            if held is old:
                vars(module)[key] = new


def _changed(holder: Any, steps: Sequence[str], value: Any) -> Any:
    """Return a copy of ``holder`` with one number changed, and copies on the way to it."""
    new, first = copy.copy(holder), steps[0]
    if len(steps) > 1:
        value = _changed(_items(holder)[first], steps[1:], value)
    if isinstance(new, dict):
        dict.__setitem__(new, first, value)  # a frozen dict refuses, and an easy one has both
    if first in getattr(new, "__dict__", {}):
        vars(new)[first] = value
    return new


def _steps(name: str) -> list[str]:
    return [plain or keyed for plain, keyed in _STEP.findall(name)]


def _items(holder: Any) -> dict[Any, Any]:
    """Return the dictionary in which a config (or a module's attributes) keeps its values."""
    return holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
