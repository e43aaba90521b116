"""The shape of example inputs as JSON, and example inputs of that shape."""

from __future__ import annotations

import math
from typing import Any

import torch

from gancompress.errors import CheckpointError

LARGEST = 2**31
"""Numbers of an example that a record may ask for (8 GiB in float32)."""

_PLAIN = (type(None), bool, int, float, str)


def describe(example: Any) -> Any:
    """Write nested example inputs as JSON-ready values: tensors as dtype and shape (ours).

    Raises:
        CheckpointError: an input is of a type that JSON cannot hold.
    """
    if isinstance(example, torch.Tensor):
        return {"tensor": str(example.dtype).removeprefix("torch."), "shape": list(example.shape)}
    if type(example) in (list, tuple):
        return {type(example).__name__: [describe(v) for v in example]}
    if type(example) is dict and all(type(k) is str for k in example):
        return {"dict": {k: describe(v) for k, v in example.items()}}
    if type(example) in _PLAIN:
        return {"value": example}
    raise CheckpointError(
        f"an input of type {type(example).__name__} cannot be recorded: a graph form is saved only "
        "when its inputs are tensors, numbers, texts, None, and lists, tuples and dicts of them"
    )


def example_of(description: Any, device: torch.device) -> Any:
    """Make inputs (tensors of zeros) of a described shape.

    Raises:
        CheckpointError: the description is damaged.
    """
    try:
        return _example_of(description, device)
    except (
        KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise CheckpointError(f"the record of example inputs is damaged: {error!r}") from error


def _example_of(description: Any, device: torch.device) -> Any:
    if "tensor" in description:
        dtype = getattr(torch, description["tensor"])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{description['tensor']!r} is no dtype")
        shape = [int(n) for n in description["shape"]]
        if math.prod(shape) > LARGEST:
            raise ValueError(f"an example of {math.prod(shape):,} numbers")
        return torch.zeros(shape, dtype=dtype, device=device)
    if "list" in description:
        return [_example_of(v, device) for v in description["list"]]
    if "tuple" in description:
        return tuple(_example_of(v, device) for v in description["tuple"])
    if "dict" in description:
        return {k: _example_of(v, device) for k, v in description["dict"].items()}
    value = description["value"]
    if type(value) not in _PLAIN:
        raise ValueError(f"{value!r} is no plain value")
    return value
