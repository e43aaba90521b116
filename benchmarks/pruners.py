"""Two engines behind one function: cut half the channels, report what was cut and from what.

`Outcome.reference` computes what the small network must equal: the original with every dead channel
silenced at its readers.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import gancompress as gc

CONVLIN = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Outcome:
    """What an engine made of a generator."""

    reference: nn.Module
    small: nn.Module


def ours(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> Outcome:
    """Trace, draw a random plan, cut; the reference is the generator masked by the same plan."""
    graph = gc.trace(module, args, kwargs)
    if not graph.groups:
        return Outcome(module, module)
    plan = gc.random_plan(graph, keep=0.5, seed=seed)
    small = gc.cut(module, plan, graph=graph)
    gc.wrap(module, args, kwargs).apply(plan)
    return Outcome(module, small)


def torch_pruning(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int
) -> Outcome:
    """BasePruner with defaults, group L2 importance, half the channels, the last layer ignored."""
    import torch_pruning as tp

    with torch.no_grad():
        module(*args, **kwargs)  # no graph on derived weights, or they could not be copied
    reference, small = copy.deepcopy(module), module
    paths = {id(m): n for n, m in small.named_modules()}
    layers = [m for m in small.modules() if isinstance(m, CONVLIN)]
    whole = _Survivors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.BasePruner(
            small,
            args,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.5,
            ignored_layers=layers[-1:],
            forward_fn=lambda m, inputs: m(*inputs, **kwargs),
        )
        for group in pruner.step(interactive=True):
            cuts = []
            for item in group:
                target = item.dep.target.module
                if isinstance(target, CONVLIN) and pruner.DG.is_in_channel_pruning_fn(
                    item.dep.handler
                ):
                    size = target.in_features if isinstance(target, nn.Linear) else 0
                    size = size or target.in_channels
                    cuts.append((paths[id(target)], size, list(item.idxs)))
            group.prune()
            for path, size, dead in cuts:
                whole.drop(reference.get_submodule(path), path, size, dead)
    return Outcome(reference, small)


class _Survivors:
    """Zeroes the columns of a reference as torch-pruning removes them, in original numbering."""

    def __init__(self) -> None:
        self._left: dict[str, list[int]] = {}

    def drop(self, layer: nn.Module, path: str, size: int, dead: list[int]) -> None:
        left = self._left.setdefault(path, list(range(size)))
        original = [left[i] for i in dead]
        gone = set(original)
        self._left[path] = [i for i in left if i not in gone]
        grouped = getattr(layer, "groups", 1) > 1
        weight = _raw_weight(layer)
        with torch.no_grad():
            if grouped:
                return  # a depthwise layer has no columns; its own channel is read elsewhere
            if isinstance(layer, nn.modules.conv._ConvTransposeNd):
                weight[original] = 0
            else:
                weight[:, original] = 0


def _raw_weight(layer: nn.Module) -> torch.Tensor:
    for name in ("weight_v", "weight_orig"):
        if isinstance(getattr(layer, name, None), torch.Tensor):
            return getattr(layer, name)
    if nn.utils.parametrize.is_parametrized(layer, "weight"):
        held = layer.parametrizations["weight"]
        return held.original1 if hasattr(held, "original1") else held.original
    return layer.weight


ENGINES: dict[str, Callable[[nn.Module, tuple[Any, ...], dict[str, Any], int], Outcome]] = {
    "gancompress": ours,
    "torch-pruning": torch_pruning,
}
