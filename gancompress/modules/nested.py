"""Inputs and outputs of a call: tensors in lists, tuples, dicts, dataclasses, named tuples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch


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
