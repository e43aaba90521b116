"""After slicing: put right the numbers that modules keep in Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gancompress.graph.attributes import write_number
from gancompress.graph.groups import ChannelGraph, count_alive
from gancompress.graph.solved_sizes import solve_attributes
from gancompress.graph.traced_int import AttributeKey

Change = tuple[str, str, Any]
"""(module path, attribute name, new value)."""


def attribute_changes(graph: ChannelGraph, alive: np.ndarray) -> list[Change]:
    """Return the integer attributes that must change, with their new values (ours).

    Two sources: attributes seen to size a tensor while tracing, and the group counts of grouped
    convolutions and group norms.
    """
    new = solve_attributes(
        graph.uses, graph.attributes, lambda dim: count_alive(dim, alive), graph.follow
    )
    changes: dict[tuple[str, str], Any] = {}
    for (path, name, index), value in new.items():
        if index is not None:
            old = changes.get((path, name), graph.sequences[(path, name)])
            value = type(old)(value if i == index else v for i, v in enumerate(old))
        changes[(path, name)] = value
    for op in graph.ops:
        for _, dim in op.counts:
            value = count_alive(dim, alive)
            if op.counted and count_alive(dim, np.ones_like(alive)) != value:
                changes[(op.module, op.counted)] = value
    return [(path, name, value) for (path, name), value in changes.items()]


def followed(graph: ChannelGraph, changes: Sequence[Change]) -> frozenset[AttributeKey]:
    """Return the attributes that count channels, as all cuts so far show (ours).

    Args:
        graph: of the network before the last cut.
        changes: what that cut changed.
    """
    found = set(graph.follow)
    for path, name, value in changes:
        if not isinstance(value, (tuple, list)):
            found.add((path, name, None))
            continue
        old = graph.sequences.get((path, name), ())
        found |= {
            (path, name, i) for i, (a, b) in enumerate(zip(old, value, strict=False)) if a != b
        }
    return frozenset(found)


def set_attributes(module: nn.Module, changes: Iterable[Change]) -> None:
    """Write attribute changes into a sliced module, then let torch's own modules restate sizes."""
    for path, name, value in changes:
        write_number(module, path, name, value)
    for sub in module.modules():
        if not isinstance(sub, torch.jit.ScriptModule):
            _restate(sub)


def _weight_of(sub: nn.Module) -> Any:
    """Return the tensor that shows a torch module's widths, raw or normalised."""
    store = sub._parameters
    # A `weight_v` alone is the vector of a hand-written spectral norm.
    names = ("weight", "weight_orig", "weight_v" if "weight_g" in store else "weight_bar")
    for name in names:
        if store.get(name) is not None:
            return store[name]
    parametrized = getattr(sub, "parametrizations", None)
    if isinstance(parametrized, nn.ModuleDict) and "weight" in parametrized:
        plist: Any = parametrized["weight"]
        while hasattr(plist, "parametrizations"):
            plist = next(iter(plist.parametrizations.values()))
        return getattr(plist, "original", getattr(plist, "original1", None))
    return sub._buffers.get("running_mean")


def _restate(sub: nn.Module) -> None:
    """Let a torch module's printed sizes follow its parameters."""
    weight = _weight_of(sub)
    if weight is None:
        return
    shape = weight.shape
    if isinstance(sub, nn.modules.conv._ConvTransposeNd):
        sub.in_channels, sub.out_channels = shape[0], shape[1] * sub.groups
    elif isinstance(sub, nn.modules.conv._ConvNd):
        sub.out_channels, sub.in_channels = shape[0], shape[1] * sub.groups
    elif isinstance(sub, nn.Linear):
        sub.out_features, sub.in_features = shape[0], shape[1]
    elif isinstance(sub, nn.modules.batchnorm._NormBase):
        sub.num_features = shape[0]
    elif isinstance(sub, nn.GroupNorm):
        sub.num_channels = shape[0]
    elif isinstance(sub, nn.Embedding):
        sub.embedding_dim = shape[1]
    elif isinstance(sub, nn.PReLU):
        sub.num_parameters = shape[0]
