"""Independent checks: what the surgeon claims is measured here again, with none of its code."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def floats(value: Any) -> Iterator[Tensor]:
    """Yield every floating or complex tensor of a nested output, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from floats(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from floats(item)


def mapped(value: Any, change: Any) -> Any:
    """Rebuild a nested input with `change` applied to every floating tensor."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            f.name: mapped(getattr(value, f.name), change) for f in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(mapped(item, change) for item in value)
    return value


def run(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the output tensors of one call, with the noise drawn inside fixed by a seed."""
    import numpy as np

    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    # Some networks write into their inputs.
    args, kwargs = (mapped(value, torch.clone) for value in (args, kwargs))
    return list(floats(module(*args, **kwargs)))


def randomise(module: nn.Module, seed: int = 1) -> None:
    """Make every constant parameter and norm statistic random: a zero beta hides real errors."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for child in module.modules():
            mean = getattr(child, "running_mean", None)
            if isinstance(mean, Tensor):
                mean.normal_(0, 0.2, generator=rng)
                child.running_var.uniform_(0.6, 1.4, generator=rng)
        for parameter in module.parameters():
            constant = parameter.numel() < 2 or float(parameter.std()) == 0
            if parameter.is_floating_point() and constant:
                parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.2)


def doubled(module: nn.Module, args: Any, kwargs: Any) -> tuple[nn.Module, Any, Any]:
    """Return float64 copies of a module and its inputs."""
    # A call without gradients leaves no graph on derived weights, which could not be copied.
    with torch.no_grad():
        run(module, args, kwargs)
    twin = copy.deepcopy(module).double()
    args, kwargs = (mapped(value, lambda t: t.double()) for value in (args, kwargs))
    return twin, args, kwargs


def other(args: Any, kwargs: Any, seed: int = 99) -> tuple[Any, Any]:
    """Return inputs of the same shapes and kinds with other values."""
    rng = torch.Generator().manual_seed(seed)

    def draw(t: Tensor) -> Tensor:
        noise = torch.randn(t.shape, generator=rng, dtype=t.dtype)
        # Same range, so that a branch on the data takes the same side.
        return t.flatten().roll(1).view(t.shape) + 0.05 * noise.abs()

    return mapped(args, draw), mapped(kwargs, draw)


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Return max |a-b| / std(a) over all outputs; infinity where shapes differ or NaN appears."""
    if len(a) != len(b) or not a:
        return float("inf")
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape or not torch.isfinite(x).all() or not torch.isfinite(y).all():
            return float("inf")
        scale = float(x.std()) if x.numel() > 1 else float(x.abs())
        worst = max(worst, float((x - y).abs().max()) / max(scale, 1e-30))
    return worst


def error(
    reference: nn.Module, small: nn.Module, args: Any, kwargs: Any, inputs: int = 2
) -> tuple[float, float]:
    """Compare two networks in float64 on several inputs.

    Returns:
        (largest relative difference, how much the reference follows its input). A network that
        ignores its input passes any comparison, so the second number must not be near zero.
    """
    big, args64, kwargs64 = doubled(reference, args, kwargs)
    little, _, _ = doubled(small, args, kwargs)
    worst, first = 0.0, None
    follows = 0.0
    with torch.no_grad():
        for n in range(inputs):
            a, k = (args64, kwargs64) if n == 0 else other(args64, kwargs64, seed=98 + n)
            wanted = run(big, a, k)
            worst = max(worst, difference(wanted, run(little, a, k)))
            if first is None:
                first = wanted
            else:
                follows = max(follows, difference(first, wanted))
    return worst, follows


def backward(module: nn.Module, args: Any, kwargs: Any) -> int:
    """Run forward and backward in training mode; return how many parameters got a gradient."""
    state = copy.deepcopy(module.state_dict())
    module.train()
    module.zero_grad()
    loss = sum(out.abs().square().mean() for out in run(module, args, kwargs))
    loss.backward()
    moved = [p for p in module.parameters() if p.grad is not None]
    if not all(torch.isfinite(p.grad).all() for p in moved):
        raise FloatingPointError("a gradient is not finite")
    count = sum(bool((p.grad != 0).any()) for p in moved)
    module.zero_grad()
    module.eval()
    module.load_state_dict(state)
    return count


def size(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())
