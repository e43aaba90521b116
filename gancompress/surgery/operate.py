"""Cut a live, gated generator in place: same object, optimisers and copies follow, training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.repair import set_attributes
from gancompress.graph.trace import trace
from gancompress.graph.twin import copy_with
from gancompress.surgery.cut import new_tensor, plan_optimizer
from gancompress.surgery.names import raw_tensors
from gancompress.surgery.plan import Plan

Strip = Callable[[nn.Module], None]


def sliced_copy(generator: nn.Module, plan: Plan, strip: Strip) -> tuple[nn.Module, dict[int, torch.Tensor]]:
    """Return a plain sliced copy of a (possibly gated) generator, and old id -> new tensor.

    Raises:
        GraphError: the plan was made for another network.
    """
    raw = raw_tensors(generator)
    unknown = [n for n in plan.tensors if n not in raw]
    if unknown:
        raise GraphError(f"the plan cuts {unknown[0]!r}, which this network does not have")
    table = {id(t): plan.tensors[n] for n, t in raw.items() if n in plan.tensors}
    keep = {id(t) for t in raw.values()}
    twins: dict[int, torch.Tensor] = {}

    def replace(t: torch.Tensor) -> torch.Tensor:
        if id(t) in table:
            twins[id(t)] = new_tensor(t, table[id(t)])
            return twins[id(t)]
        if id(t) in keep and isinstance(t, nn.Parameter):
            return t  # untouched tensors are shared, not copied: the trial run only reads
        return t.detach().clone() if not isinstance(t, nn.Parameter) else nn.Parameter(t.detach())

    small = copy_with(generator, replace)
    strip(small)
    set_attributes(small, plan.attributes)
    return small, twins


def operate(
    generator: nn.Module,
    plan: Plan,
    *,
    graph: ChannelGraph,
    strip: Strip,
    optimizers: Sequence[torch.optim.Optimizer] = (),
    copies: Sequence[nn.Module] = (),
) -> tuple[ChannelGraph, dict[int, torch.Tensor]]:
    """Cut ``generator`` and ``copies`` in place; they come back without gates.

    The cut network is traced (so it was run) before anything is changed.

    Returns:
        The graph of the cut network, and old id -> new tensor for parameters and buffers.

    Raises:
        GraphError: the cut network does not run, or optimiser state cannot be sliced; nothing has
            changed then.
    """
    small, twins = sliced_copy(generator, plan, strip)
    new_graph = trace(small, *graph.example, trial=False)
    table = {id(t): plan.tensors[n] for n, t in raw_tensors(generator).items() if n in plan.tensors}
    moves = [plan_optimizer(o, table, twins) for o in optimizers]
    copy_twins = [sliced_copy(c, plan, strip)[1] for c in copies]
    for move in moves:
        move()
    for module, mapping in ((generator, twins), *zip(copies, copy_twins, strict=True)):
        strip(module)
        install(module, mapping)
        set_attributes(module, plan.attributes)
    return new_graph, twins


def install(module: nn.Module, twins: Mapping[int, torch.Tensor]) -> None:
    """Put new tensors in the places of the old ones."""
    for sub in module.modules():
        for store in (sub._parameters, sub._buffers, vars(sub)):
            for key, value in list(store.items()):
                if isinstance(value, torch.Tensor) and id(value) in twins:
                    store[key] = twins[id(value)]


def carried_channels(old: ChannelGraph, new: ChannelGraph, plan: Plan) -> dict[str, tuple[str, np.ndarray]]:
    """Return, for each new group, the old group and the old channel numbers of its channels."""
    where: dict[tuple[str, int], tuple[str, np.ndarray]] = {}
    for group in old.groups:
        for slot, index in group.slots.items():
            table = where.setdefault(
                slot, (group.name, np.full((2, old.shapes[slot[0]][slot[1]]), -1, np.int64))
            )[1]
            table[0, index] = old.groups.index(group)
            table[1, index] = np.arange(group.size)[:, None]
    found = {}
    for group in new.groups:
        for slot, index in group.slots.items():
            if slot not in where:
                continue
            row = plan.tensors.get(slot[0])
            kept = None if row is None else row[slot[1]]
            first = index[:, 0] if kept is None else np.asarray(kept)[index[:, 0]]
            owners, channels = where[slot][1][:, first]
            if (owners == owners[0]).all() and owners[0] >= 0:
                found[group.name] = (old.groups[int(owners[0])].name, channels)
                break
    return found
