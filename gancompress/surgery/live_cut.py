"""Cut a live, gated generator in place: same object; optimisers and copies follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from gancompress.graph.atoms import Reason
from gancompress.graph.attribute_changes import followed, set_attributes
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.graph.trace import trace
from gancompress.surgery.cut_record import remember_cut
from gancompress.surgery.optimizers import plan_optimizer
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.slicing import Strip, install, sliced_copy
from gancompress.surgery.transaction import all_or_nothing


def operate(
    generator: nn.Module,
    plan: Plan,
    *,
    graph: ChannelGraph,
    strip: Strip,
    optimizers: Sequence[torch.optim.Optimizer] = (),
    copies: Sequence[nn.Module] = (),
) -> ChannelGraph:
    """Cut ``generator`` and ``copies`` in place; they come back without gates (ours).

    The cut network is traced (so it was run) and every move is prepared before anything changes.

    Returns:
        The graph of the cut network. What was kept whole before is kept whole in it.

    Raises:
        GraphError: the cut network does not run, or optimiser state cannot be sliced; nothing has
            changed then.
    """
    small, twins = sliced_copy(generator, plan, strip, share=True)
    new_graph = _trace_again(small, graph, plan)
    table = {id(t): plan.tensors[n] for n, t in raw_tensors(generator).items() if n in plan.tensors}
    moves = [plan_optimizer(o, table, twins) for o in optimizers]
    copy_twins = [sliced_copy(c, plan, strip, share=True)[1] for c in copies]
    before = raw_tensors(generator)
    with all_or_nothing((generator, *copies), optimizers):
        for move in moves:
            move()
        for module, mapping in ((generator, twins), *zip(copies, copy_twins, strict=True)):
            strip(module)
            install(module, mapping)
            set_attributes(module, plan.attributes)
            remember_cut(module, plan, before)
    return new_graph


def _trace_again(small: nn.Module, old: ChannelGraph, plan: Plan) -> ChannelGraph:
    """Trace the cut network; what trial cuts and numbers ruled out before stays ruled out."""
    args, kwargs = old.example
    # Attributes that only a trial cut shows to follow a group must be found again.
    trial = any(use.operator == "assert" for use in old.uses)
    train, follow = old.trains == "traced", followed(old, plan.attributes)
    again = partial(
        trace, small, args, kwargs, trial=trial, exact=old.exact, train=train, follow=follow
    )
    new = again()
    kept = _kept_before(old, new, plan)
    return again(keep=kept) if kept else new


def _kept_before(
    old: ChannelGraph, new: ChannelGraph, plan: Plan
) -> list[tuple[np.ndarray, Reason]]:
    """Return the atoms that are free in ``new`` but were kept whole in ``old``, with the reason."""
    found = []
    for slot, factor in new.slots.items():
        if slot not in old.slots:
            continue
        now, before = factor.atoms, old.slots[slot].atoms
        assert now is not None
        assert before is not None
        row = plan.tensors.get(slot[0])
        kept = None if row is None else row[slot[1]]
        before = before if kept is None else before[kept]
        pinned = (old.owners(before) < 0) & (new.owners(now) >= 0)
        if pinned.any():
            reason = old.solution.reason_of(before[pinned])
            found.append((now[pinned], reason or Reason("", "", "was kept before the last cut")))
    return found


def carried_channels(
    old: ChannelGraph, new: ChannelGraph, plan: Plan
) -> dict[str, tuple[str, np.ndarray]]:
    """Return, for each new group, the old group and the old channel numbers of its channels."""
    where: dict[tuple[str, int], np.ndarray] = {}
    for i, group in enumerate(old.groups):
        for slot, index in group.slots.items():
            # Two groups may lie side by side in one dimension (a concatenation): one table a slot.
            table = where.setdefault(slot, np.full((2, old.shapes[slot[0]][slot[1]]), -1, np.int64))
            table[0, index] = i
            table[1, index] = np.arange(group.size)[:, None]
    found = {}
    for group in new.groups:
        for slot, index in group.slots.items():
            if slot not in where:
                continue
            row = plan.tensors.get(slot[0])
            kept = None if row is None else row[slot[1]]
            first = index[:, 0] if kept is None else np.asarray(kept)[index[:, 0]]
            owners, channels = where[slot][:, first]
            if (owners == owners[0]).all() and owners[0] >= 0:
                found[group.name] = (old.groups[int(owners[0])].name, channels)
                break
    return found
