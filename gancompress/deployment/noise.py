"""Noise that a forward draws itself: found, and made an input or a constant of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gancompress.errors import ConfigError, GraphError
from gancompress.modules.user_line import user_frame

WAYS = ("input", "fixed")
_EMPTY: dict[str, Callable[..., Tensor]] = {
    "randn": torch.empty,
    "rand": torch.empty,
    "randn_like": torch.empty_like,
    "rand_like": torch.empty_like,
}
_IN_PLACE = {"normal_", "uniform_"}


@dataclass(frozen=True)
class Drawn:
    """One draw of a forward: which function, what it gave, and the user's line (ours)."""

    function: str
    value: Tensor
    line: str


@dataclass(frozen=True)
class Noise:
    """How a `FlatCall` gets the numbers that its generator would draw (ours).

    Attributes:
        way: ``input``, ``fixed``, or empty for a forward that draws nothing.
        names: of the draws, in order.
        dims: of each draw, the dimensions that follow the sizes of the inputs.
        constants: what is drawn when fixed, by name; dimensions that follow the batch have size 1.
    """

    way: str = ""
    names: tuple[str, ...] = ()
    dims: tuple[frozenset[int], ...] = ()
    constants: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class Watched(TorchFunctionMode):
    """Keeps a list of the draws in its body, in ``drawn`` (ours)."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Drawn] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in _EMPTY:
            self.drawn.append(Drawn(name, result.detach(), user_frame()))
        elif name in _IN_PLACE:
            low, high = _parameters(args, kwargs)
            scale = (high - low) if name == "uniform_" else high
            unit = (result.detach() - low) / (scale or 1.0)
            self.drawn.append(Drawn(name, unit, user_frame()))
        return result


class Fed(TorchFunctionMode):
    """Gives the draws in its body the tensors ``values``, in order (ours)."""

    def __init__(self, noise: Noise, values: Sequence[Tensor]) -> None:
        super().__init__()
        self.noise = noise
        self.values = list(values)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if not self.noise.way or (name not in _EMPTY and name not in _IN_PLACE):
            return func(*args, **kwargs)
        if not self.values:
            raise GraphError("the forward draws noise more often than in its first call")
        value = self.values.pop(0)
        if name in _EMPTY:
            if self.noise.way == "input":
                return value
            kwargs.pop("generator", None)
            kwargs["device"] = "meta"  # only the shape is asked for
            return value.expand(_EMPTY[name](*args, **kwargs).shape)
        low, high = _parameters(args, kwargs)
        scale = (high - low) if name == "uniform_" else high
        return args[0].copy_(value * scale + low)


def _parameters(args: Any, kwargs: Any) -> tuple[float, float]:
    """Return mean and deviation of ``normal_``, or the ends of ``uniform_``."""
    given, found = dict(kwargs or {}), list(args[1:3])
    for place, (keys, usual) in enumerate(((("mean", "from"), 0.0), (("std", "to"), 1.0))):
        if len(found) <= place:
            found.append(next((given[k] for k in keys if k in given), usual))
    return float(found[0]), float(found[1])


def plan_noise(way: str | None, draws: Sequence[Sequence[Drawn]], batch_only: int) -> Noise:
    """Decide what becomes of the draws of a forward.

    Args:
        way: ``input``, ``fixed``, or ``None`` where nobody has said.
        draws: of the same call at several sizes, the example's first.
        batch_only: how many of them, from the start, differ by the batch alone.

    Raises:
        ConfigError: noise is drawn and nobody said what becomes of it, or it cannot be fixed.
        GraphError: the number of draws depends on the sizes.
    """
    if way is not None and way not in WAYS:
        raise ConfigError(f"--noise {way!r} is not one of {', '.join(WAYS)}")
    first = draws[0]
    if not first:
        return Noise()
    if way is None:
        raise ConfigError(
            f"the forward draws {first[0].function} noise{_at(first[0])}, {len(first)} times in "
            "all: --noise input makes it inputs of the file, --noise fixed draws it once for all"
        )
    if any(len(other) != len(first) for other in draws):
        raise GraphError("the forward draws noise a number of times that depends on its sizes")
    names = tuple(f"noise_{i}" for i in range(len(first)))
    dims = tuple(
        frozenset(d for other in draws for d in _changed(first[i].value, other[i].value))
        for i in range(len(first))
    )
    if way == "input":
        return Noise(way, names, dims)
    constants: dict[str, Tensor] = {}
    for i, name in enumerate(names):
        batch = {d for o in draws[:batch_only] for d in _changed(first[i].value, o[i].value)}
        if dims[i] - batch:
            raise ConfigError(
                f"the noise{_at(first[i])} changes its size with the inputs, so one draw cannot "
                "serve all: --noise input, or only the batch in --dynamic"
            )
        value = first[i].value
        for d in batch:
            value = value.narrow(d, 0, 1)
        constants[name] = value.clone()
    return Noise(way, names, dims, constants)


def _changed(one: Tensor, two: Tensor) -> set[int]:
    if one.dim() != two.dim():
        raise GraphError("the forward draws noise of other dimensions at other sizes")
    return {d for d in range(one.dim()) if one.shape[d] != two.shape[d]}


def _at(drawn: Drawn) -> str:
    return f" at {drawn.line}" if drawn.line else ""
