"""Two engines behind one function: cut half the channels, report what was cut and from what.

`Outcome.references` compute what the small network must equal: the original with every dead channel
silenced.
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
    """What an engine made of a generator; equal to one of the references, if it is exact."""

    references: list[nn.Module]
    small: nn.Module


def ours(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> Outcome:
    """Trace, draw a random plan, cut; the reference is the generator masked by the same plan."""
    graph = gc.trace(module, args, kwargs)
    if not graph.groups:
        return Outcome([module], module)
    plan = gc.random_plan(graph, keep=0.5, seed=seed)
    small = gc.cut(module, plan, graph=graph)
    gc.wrap(module, args, kwargs).apply(plan)
    return Outcome([module], small)


def torch_pruning(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int
) -> Outcome:
    """BasePruner with defaults, group L2 importance, half the channels, the last layer ignored."""
    import torch_pruning as tp

    with torch.no_grad():
        module(*args, **kwargs)  # no graph on derived weights, or they could not be copied
    silenced, small = _Silenced(module), module
    paths = {id(m): n for n, m in small.named_modules()}
    layers = [m for m in small.modules() if isinstance(m, CONVLIN)]
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
                path = paths.get(id(item.dep.target.module))
                if path is not None:
                    reads = pruner.DG.is_in_channel_pruning_fn(item.dep.handler)
                    cuts.append((path, reads, list(item.idxs)))
            group.prune()
            for path, reads, dead in cuts:
                silenced.drop(path, reads, dead)
    return Outcome([silenced.readers, silenced.both], small)


class _Silenced:
    """The original with the removed channels silenced, in two ways of which either will do.

    `readers` zeroes the columns that read a removed channel; `both` also zeroes the rows and the
    affine parameters that write it, for channels that are read without a weight.
    """

    def __init__(self, module: nn.Module) -> None:
        self.readers, self.both = copy.deepcopy(module), copy.deepcopy(module)
        self._left: dict[tuple[str, bool], list[int]] = {}

    def drop(self, path: str, reads: bool, dead: list[int]) -> None:
        """Follow one step of torch-pruning, whose indices count what is left at that moment."""
        layer = self.both.get_submodule(path)
        size = _width(layer, reads)
        if size is None:
            return
        left = self._left.setdefault((path, reads), list(range(size)))
        gone = {left[i] for i in dead}
        self._left[(path, reads)] = [i for i in left if i not in gone]
        with torch.no_grad():
            for i in gone:
                if reads and isinstance(layer, CONVLIN):
                    _zero_column(self.readers.get_submodule(path), i)
                    _zero_column(layer, i)
                elif not reads:
                    _zero_row(layer, i)


def _width(layer: nn.Module, reads: bool) -> int | None:
    for name in ("in_channels", "in_features") if reads else ("out_channels", "out_features"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    for name in ("num_features", "num_channels"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    return None


def _zero_column(layer: nn.Module, i: int) -> None:
    weight, groups = _raw_weight(layer), getattr(layer, "groups", 1)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        weight[i] = 0
    elif groups == 1:
        weight[:, i] = 0
    elif groups < weight.shape[0] or weight.shape[1] > 1:
        rows, columns = weight.shape[0] // groups, weight.shape[1]
        group = i // columns
        weight[group * rows : (group + 1) * rows, i % columns] = 0


def _zero_row(layer: nn.Module, i: int) -> None:
    if isinstance(layer, nn.modules.conv._ConvTransposeNd) and layer.groups == 1:
        _raw_weight(layer)[:, i] = 0
    elif isinstance(layer, CONVLIN) and not isinstance(layer, nn.modules.conv._ConvTransposeNd):
        _raw_weight(layer)[i] = 0
    elif isinstance(getattr(layer, "weight", None), torch.Tensor) and layer.weight.dim() == 1:
        layer.weight[i] = 0
    if isinstance(getattr(layer, "bias", None), torch.Tensor):
        layer.bias[i] = 0


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
