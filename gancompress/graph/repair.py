"""After slicing: put right the numbers that modules keep in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from gancompress.graph.groups import ChannelGraph, count_alive
from gancompress.graph.sizes import solve_attributes


def repair_attributes(module: nn.Module, graph: ChannelGraph, alive: np.ndarray) -> None:
    """Set integer attributes of a sliced copy to the values its new widths need (ours).

    Three sources: attributes seen to size a tensor while tracing; group counts of grouped
    convolutions and group norms; the channel counts that torch's own modules print.
    """
    new = solve_attributes(graph.uses, graph.attributes, lambda dim: count_alive(dim, alive))
    for (path, name, index), value in new.items():
        owner = module.get_submodule(path)
        if index is None:
            vars(owner)[name] = value
        else:
            old = vars(owner)[name]
            vars(owner)[name] = type(old)(
                value if i == index else v for i, v in enumerate(old)
            )
    for op in graph.ops:
        for _, dim in op.counts:
            owner = module.get_submodule(op.module)
            name = "num_groups" if "norm" in op.name else "groups"
            if isinstance(owner, (nn.modules.conv._ConvNd, nn.GroupNorm)):
                setattr(owner, name, count_alive(dim, alive))
    for sub in module.modules():
        _restate(sub)


def _restate(sub: nn.Module) -> None:
    """Let a torch module's printed sizes follow its parameters."""
    store = sub._parameters
    weight: Any = store.get("weight")
    if weight is None:
        weight = store.get("weight_orig", store.get("weight_v"))
    if weight is None and hasattr(sub, "parametrizations") and "weight" in sub.parametrizations:
        plist = sub.parametrizations["weight"]
        weight = getattr(plist, "original", getattr(plist, "original1", None))
    if weight is None:
        weight = sub._buffers.get("running_mean")
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
