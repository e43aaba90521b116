"""What decides a network's output and stands in no state dict: other buffers, plain tensors.

A plain tensor is named by the attribute that holds it; one in a list, tuple or dict by the way to
it, ``noises[0]`` or ``tables["low"][2]``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

_DEPTH = 4
_DECODER = json.JSONDecoder()


def extras_of(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and tensor: buffers that are not persistent, and tensors of plain attributes.

    Not what an old norm computes, nor results of the last forward, which require a gradient.
    """
    known = {id(t) for t in (*module.parameters(), *module.buffers())}
    for path, sub in module.named_modules():
        prefix = f"{path}." if path else ""
        for name in sorted(sub._non_persistent_buffers_set):
            if (buffer := sub._buffers.get(name)) is not None:
                yield prefix + name, buffer
        for name, value in vars(sub).items():
            if name in vars(_PLAIN) or {f"{name}_{e}" for e in _NORMS} & sub._parameters.keys():
                continue
            for keys, tensor in _inside(value, _DEPTH):
                # Parameters and buffers in a list stand in the state dict by their own names.
                state = tensor.is_leaf and not tensor.requires_grad and id(tensor) not in known
                if state and not (keys and _is_odd(tensor)):
                    yield prefix + name + "".join(f"[{json.dumps(k)}]" for k in keys), tensor


def restore_extras(module: nn.Module, extras: Mapping[str, torch.Tensor]) -> None:
    """Put the tensors of `extras_of` back where ``module`` has one of that name and shape."""
    for name, t in extras.items():
        way, bracket, keys = name.partition("[")
        path, _, last = way.rpartition(".")
        with contextlib.suppress(AttributeError, ValueError):
            owner = module.get_submodule(path)
            steps = _steps(bracket + keys)
            for store in (owner._buffers, vars(owner)):
                held = _at(store.get(last), steps)
                if isinstance(held, torch.Tensor) and held.shape == t.shape:
                    store[last] = _put(store[last], steps, t.to(held.device))


_PLAIN = nn.Module()
_NORMS = ("orig", "g", "bar")


def _inside(value: Any, deeper: int) -> Iterator[tuple[tuple[Any, ...], torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield (), value
        return
    if not deeper or type(value) not in (list, tuple, dict):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if type(key) in (str, int):
            for keys, tensor in _inside(item, deeper - 1):
                yield (key, *keys), tensor


def _is_odd(tensor: torch.Tensor) -> bool:
    """Whether a file cannot hold it; by itself such an attribute is refused, in a list left out."""
    return tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta


def _steps(text: str) -> list[Any]:
    """Return the keys in ``[0]["low"]``.

    Raises:
        ValueError: it is no such text.
    """
    steps: list[Any] = []
    while text:
        key, end = _DECODER.raw_decode(text, 1)
        if text[0] != "[" or text[end : end + 1] != "]":
            raise ValueError(text)
        steps.append(key)
        text = text[end + 1 :]
    return steps


def _at(value: Any, steps: Sequence[Any]) -> Any:
    for step in steps:
        if type(value) is dict:
            value = value.get(step)
        elif type(value) in (list, tuple) and type(step) is int and 0 <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def _put(value: Any, steps: Sequence[Any], tensor: torch.Tensor) -> Any:
    """Return ``value`` with ``tensor`` at the end of ``steps``; lists and dicts are written to."""
    if not steps:
        return tensor
    first, *rest = steps
    new = _put(value[first], rest, tensor)
    if isinstance(value, tuple):
        return tuple(new if i == first else v for i, v in enumerate(value))
    value[first] = new
    return value
