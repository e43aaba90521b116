"""Nested values (inputs, outputs, attributes): the one walk over the tensors in them.

Followed are lists, tuples, named tuples and torch's own return types, sets, mappings of any kind
(ordered, with defaults, read-only), dataclasses (frozen ones too), outputs that are both
(`ModelOutput`), namespaces, types that are registered with torch's pytree, and objects of the
user's own classes that have tensors for attributes. Everything else, None included, is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from gancompress.errors import DataError
from gancompress.modules.user_line import is_machinery

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

    Containers are made anew, of the same type; the ones given stay as they are. What contains
    itself still contains the one given.
    """
    return _mapped(x, change, set())


def call_arguments(example: Any, kwargs: Mapping[str, Any] | None) -> tuple[tuple[Any, ...], dict]:
    """Normalise an example: a tensor, a tuple of arguments, or a mapping of keyword arguments."""
    if isinstance(example, Mapping) and kwargs is None:
        return (), dict(example)
    args = example if isinstance(example, tuple) else (example,)
    return args, dict(kwargs or {})


def pick(output: Any, which: str | None = None) -> torch.Tensor:
    """Return the image in what a generator returned: a tensor, or one of a nested value.

    Args:
        output: a tensor, or lists, tuples, mappings and dataclasses of tensors.
        which: ``None`` for the only tensor; a number (``"0"``, ``"-1"``: of the items), a name
            (key or field), or several with dots (``"images.0"``).

    Raises:
        DataError: there is nothing at ``which``, or several tensors and nothing says which.
    """
    if which is None:
        found = tensors_of(output)
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} tensors ({_listed(output)})" if found else type(output).__name__
        raise DataError(
            f"the generator returned {what}; one is needed. Say which is the image: --output 0"
            if found
            else f"the generator returned {what}, a tensor is needed"
        )
    here = output
    for part in str(which).split("."):
        items = items_of(here)
        number = part.removeprefix("-").isdecimal()
        if part in items:
            here = items[part]
        elif number and -len(items) <= int(part) < len(items):
            here = list(items.values())[int(part)]
        elif not items and part in ("0", "-1") and isinstance(here, torch.Tensor):
            raise DataError("the generator returned one tensor; leave --output out")
        else:
            raise DataError(
                f"the generator's output has no {which!r}. There is: {_listed(output) or 'nothing'}"
            )
    if not isinstance(here, torch.Tensor):
        raise DataError(
            f"the generator's output holds a {type(here).__name__} at {which!r}, not a tensor. "
            f"There is: {_listed(output)}"
        )
    return here


def items_of(x: Any) -> dict[str, Any]:
    """Return the items of a list, tuple, mapping or dataclass by name or number; else nothing."""
    if isinstance(x, Mapping):
        return {str(k): v for k, v in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return dict(zip(x._fields, x, strict=True))  # type: ignore[attr-defined]
    if isinstance(x, list | tuple):
        return {str(i): v for i, v in enumerate(x)}
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
    return dict(vars(x)) if isinstance(x, SimpleNamespace) or _holds_tensors(x) else {}


def _listed(x: Any, prefix: str = "") -> str:
    """Return the tensors of a nested value with their places and shapes."""
    if isinstance(x, torch.Tensor):
        return f"{prefix or 'a tensor'} {tuple(x.shape)}"
    inner = (_listed(v, f"{prefix}.{k}".lstrip(".")) for k, v in items_of(x).items())
    return ", ".join(text for text in inner if text)


def _mapped(x: Any, change: Callable[[torch.Tensor], Any], above: set[int]) -> Any:
    if isinstance(x, torch.Tensor):
        return change(x)
    opened = None if id(x) in above else _open(x)
    if opened is None:
        return x
    parts, rebuild = opened
    above.add(id(x))
    changed = [_mapped(part, change, above) for part in parts]
    above.discard(id(x))
    return rebuild(changed)


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
        return _fields(x, list(vars(x))) if _holds_tensors(x) else None
    parts, context = node.flatten_fn(x)
    return list(parts), lambda parts: node.unflatten_fn(list(parts), context)


def _holds_tensors(x: Any) -> bool:
    """Whether ``x`` is an object of a class of the user's, or a namespace, with tensors in it."""
    own = getattr(x, "__dict__", None)
    if not isinstance(own, dict) or (is_machinery(type(x)) and not isinstance(x, Namespace)):
        return False
    return any(isinstance(value, torch.Tensor) for value in own.values())


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
