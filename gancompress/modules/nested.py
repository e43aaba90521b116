"""Nested values (inputs, outputs, attributes): the one walk over the tensors in them.

Followed are lists, tuples, named tuples and torch's own return types, sets, mappings of any kind
(ordered, with defaults, read-only), dataclasses (frozen ones too), outputs that are both
(`ModelOutput`), simple namespaces, and types that are registered with torch's pytree. Everything
else, None included, is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

Rebuild = Callable[[Sequence[Any]], Any]


def tensors_of(x: Any) -> list[torch.Tensor]:
    """Return the tensors of a nested value, in order; one that occurs twice is there twice (ours).

    A value that contains itself is walked once.
    """
    found: list[torch.Tensor] = []
    _collect(x, found, set())
    return found


def map_tensors(x: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Return the same nested value with ``change`` applied to every tensor (ours).

    Containers are made anew, of the same type; the ones given stay as they are.
    """
    if isinstance(x, torch.Tensor):
        return change(x)
    opened = _open(x)
    if opened is None:
        return x
    parts, rebuild = opened
    return rebuild([map_tensors(part, change) for part in parts])


def call_arguments(example: Any, kwargs: Mapping[str, Any] | None) -> tuple[tuple[Any, ...], dict]:
    """Normalise an example: a tensor, a tuple of arguments, or a mapping of keyword arguments."""
    if isinstance(example, Mapping) and kwargs is None:
        return (), dict(example)
    args = example if isinstance(example, tuple) else (example,)
    return args, dict(kwargs or {})


def _collect(x: Any, found: list[torch.Tensor], above: set[int]) -> None:
    if isinstance(x, torch.Tensor):
        found.append(x)
        return
    opened = None if id(x) in above else _open(x)
    if opened is None:
        return
    above.add(id(x))
    for part in opened[0]:
        _collect(part, found, above)
    above.discard(id(x))


def _open(x: Any) -> tuple[list[Any], Rebuild] | None:
    """Return the parts of a container and what makes one like it of others; None of a leaf."""
    if isinstance(x, (type, str, bytes, int, float, type(None), nn.Module)):
        return None
    if isinstance(x, tuple):
        named = hasattr(x, "_fields")
        return list(x), lambda parts: type(x)(*parts) if named else type(x)(parts)  # type: ignore[call-arg]
    if isinstance(x, (list, set, frozenset)):
        return list(x), lambda parts: _like(x, parts)
    if dataclasses.is_dataclass(x):
        return _fields(x, [f.name for f in dataclasses.fields(x) if hasattr(x, f.name)])
    if isinstance(x, SimpleNamespace):
        return _fields(x, list(vars(x)))
    if isinstance(x, Mapping):
        keys = list(x)
        return [x[k] for k in keys], lambda parts: _mapping(x, dict(zip(keys, parts, strict=True)))
    node = pytree.SUPPORTED_NODES.get(type(x))
    if node is None:
        return None
    parts, context = node.flatten_fn(x)
    return list(parts), lambda parts: node.unflatten_fn(list(parts), context)


def _like(x: Any, parts: Sequence[Any]) -> Any:
    try:
        return type(x)(parts)
    except TypeError:  # a subclass that is made of something else
        return list(parts) if isinstance(x, list) else set(parts)


def _fields(x: Any, names: list[str]) -> tuple[list[Any], Rebuild]:
    def rebuild(parts: Sequence[Any]) -> Any:
        new = copy.copy(x)
        for name, part in zip(names, parts, strict=True):
            if part is getattr(x, name):
                continue
            try:
                setattr(new, name, part)  # an output that is a mapping too keeps both in step
            except AttributeError:  # frozen
                object.__setattr__(new, name, part)
        return new

    return [getattr(x, name) for name in names], rebuild


def _mapping(x: Any, values: dict[Any, Any]) -> Any:
    try:
        new = copy.copy(x)
        for key, value in values.items():
            if value is not x[key]:
                new[key] = value
    except (TypeError, AttributeError):  # read-only
        try:
            return type(x)(values)
        except TypeError:
            return values
    # One that hands its items to the very dict that was given, or is one that cannot be copied.
    return values if new is x else new
