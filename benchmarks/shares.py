"""Count which output channels of convolutions and Linear layers can go, and why others stay."""

from __future__ import annotations

from typing import Any

from torch import nn

from gancompress.graph.groups import ChannelGraph

_RAW = (
    "weight",
    "weight_bar",
    "weight_v",
    "weight_orig",
    "parametrizations.weight.original1",
    "parametrizations.weight.original",
)


def _slots(module: nn.Module) -> dict[str, tuple[tuple[str, int], int]]:
    """Map each convolution and Linear to the slot of its outputs and their number."""
    first: dict[int, str] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        first.setdefault(id(p), name)
    named = dict(module.named_parameters(remove_duplicate=False))
    found = {}
    for path, sub in module.named_modules():
        if not isinstance(sub, nn.modules.conv._ConvNd | nn.Linear):
            continue
        raw = next((f"{path}.{n}" for n in _RAW if f"{path}.{n}" in named), None)
        if raw is None:
            continue
        grouped = getattr(sub, "transposed", False) and sub.groups > 1
        dim = 1 if getattr(sub, "transposed", False) and not grouped else 0
        slot = (first[id(named[raw])], dim)
        found[path] = (slot, named[raw].shape[dim])
    return found


def channels(module: nn.Module, graph: ChannelGraph) -> dict[str, int]:
    """Return how many output channels of convolutions and Linear layers there are, and can go.

    Layers that the traced forward never calls are counted too. For a grouped transposed
    convolution, whose outputs are spread over two dimensions, the groups are counted.
    """
    owned: dict[tuple[str, int], set[int]] = {}
    for group in graph.groups:
        for slot, index in group.slots.items():
            owned.setdefault(slot, set()).update(int(i) for i in index.ravel())
    total = free = layers = shrunk = 0
    for slot, rows in _slots(module).values():
        mine = len(owned.get(slot, ()))
        total, free, layers, shrunk = total + rows, free + mine, layers + 1, shrunk + (mine > 0)
    return {"channels": total, "free": free, "layers": layers, "layers_free": shrunk}


def refusals(module: nn.Module, graph: ChannelGraph, most: int = 12) -> list[list[Any]]:
    """Return [reason, number of layers, one of them] for the layers that are kept whole."""
    why: dict[str, list[str]] = {}
    for path, (slot, _) in _slots(module).items():
        if slot in graph.slots and (reason := graph.reason(slot)) is not None:
            why.setdefault(str(reason), []).append(path)
    ranked = sorted(why.items(), key=lambda item: -len(item[1]))
    return [[text, len(paths), paths[0]] for text, paths in ranked[:most]]
