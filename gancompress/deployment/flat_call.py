"""One call of a generator as a function of a flat list of tensors: what all file formats have."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.deployment.noise import Fed, Noise
from gancompress.errors import DataError
from gancompress.modules.nested import items_of, map_tensors, tensors_of

Output = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Named:
    """Tensors with the names that a file gives them, in order (ours)."""

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]


def named_inputs(generator: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Named:
    """Return the tensors of a call, named by the arguments of ``forward``: ``x``, ``style.0``."""
    try:
        bound = inspect.signature(generator.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        bound = {**{f"input_{i}": a for i, a in enumerate(args)}, **kwargs}
    # In the order of the call, which is that in which `tensors_of` walks it.
    order = {id(t): name for name, value in bound.items() for name, t in _places(value, name)}
    tensors = tensors_of((tuple(args), dict(kwargs)))
    names = [order.get(id(t), f"input_{i}") for i, t in enumerate(tensors)]
    return Named(_distinct(names), tuple(tensors))


def named_outputs(output: Any) -> Named:
    """Return the tensors of an output: ``output`` for the only one, else by key or number.

    Raises:
        DataError: there is none.
    """
    found = tensors_of(output)
    if not found:
        raise DataError(f"the generator returned {type(output).__name__}, no tensor to export")
    if isinstance(output, Tensor):
        return Named(("output",), (output,))
    order = {id(t): name for name, t in _places(output, "")}
    names = [order.get(id(t), f"output_{i}") or "output" for i, t in enumerate(found)]
    return Named(_distinct(names), tuple(found))


def _places(x: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(x, Tensor):
        return [(name, x)]
    inner = [_places(v, f"{name}.{k}".lstrip(".")) for k, v in items_of(x).items()]
    return [pair for part in inner for pair in part]


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return ``names`` with a number behind those that came before."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(result)


class FlatCall(nn.Module):
    """``forward(*tensors)``: the tensors of one call in order, then the noise that it is fed.

    Lists, dicts and arguments that are no tensors are put around them as in the example. It returns
    the only tensor, or a dict of tensors by the names of `named_outputs` (ours).
    """

    def __init__(
        self, generator: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], noise: Noise
    ) -> None:
        super().__init__()
        self.generator = generator
        self.noise = noise
        self.count = len(tensors_of((args, kwargs)))
        # Only the places matter; the values would be carried along otherwise.
        self.call = map_tensors((tuple(args), dict(kwargs)), lambda t: torch.empty(0))
        for name, value in noise.constants.items():
            self.register_buffer(name, value)

    def forward(self, *tensors: Tensor) -> Output:
        """Run the generator on ``tensors``."""
        own = iter(tensors[: self.count])
        args, kwargs = map_tensors(self.call, lambda _: next(own))
        constants = [getattr(self, name) for name in self.noise.constants]
        feed = Fed(self.noise, constants or list(tensors[self.count :]))
        with feed if self.noise.way else contextlib.nullcontext():
            found = named_outputs(self.generator(*args, **kwargs))
        if len(found.tensors) == 1:
            return found.tensors[0]
        return dict(zip(found.names, found.tensors, strict=True))


def flat_outputs(output: Output) -> list[Tensor]:
    """Return the tensors of what a `FlatCall`, or a program made of one, returns."""
    return [output] if isinstance(output, Tensor) else tensors_of(output)
