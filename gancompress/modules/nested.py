"""Inputs and outputs of a call: tensors in lists, tuples, dicts, dataclasses, named tuples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gancompress.errors import DataError


def tensors_of(x: Any) -> list[torch.Tensor]:
    """Return the tensors of a nested value, in order."""
    found: list[torch.Tensor] = []
    map_tensors(x, lambda t: found.append(t) or t)
    return found


def map_tensors(x: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Return the same nested value with ``change`` applied to every tensor."""
    if isinstance(x, torch.Tensor):
        return change(x)
    if isinstance(x, tuple):
        items = [map_tensors(v, change) for v in x]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    if isinstance(x, list):
        return [map_tensors(v, change) for v in x]
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        values = {f.name: map_tensors(getattr(x, f.name), change) for f in dataclasses.fields(x)}
        try:
            return dataclasses.replace(x, **{k: v for k, v in values.items() if _settable(x, k)})
        except (TypeError, ValueError):
            return x
    if isinstance(x, Mapping):
        values = {k: map_tensors(v, change) for k, v in x.items()}
        try:
            return type(x)(values)  # type: ignore[call-arg]
        except TypeError:
            return values
    return x


def _settable(x: Any, name: str) -> bool:
    return any(f.name == name and f.init for f in dataclasses.fields(x))


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
    return {}


def _listed(x: Any, prefix: str = "") -> str:
    """Return the tensors of a nested value with their places and shapes."""
    if isinstance(x, torch.Tensor):
        return f"{prefix or 'a tensor'} {tuple(x.shape)}"
    inner = (_listed(v, f"{prefix}.{k}".lstrip(".")) for k, v in items_of(x).items())
    return ", ".join(text for text in inner if text)
