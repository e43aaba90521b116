"""From inputs to masks: trace, choose the groups, check the target, attach."""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.groups import ChannelGraph, Cost
from gancompress.graph.plan import Plan
from gancompress.graph.trace import trace
from gancompress.masks.attach import attach
from gancompress.masks.budget import Budget
from gancompress.masks.choose import choose_groups
from gancompress.masks.importance import channel_norm
from gancompress.masks.mask import ChannelMask
from gancompress.surgery.numeric_check import follows_input, vetted_trace
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.transaction import all_or_nothing
from gancompress.wrapping.gate_trial import outputs_of, try_gates
from gancompress.wrapping.state import shared
from gancompress.wrapping.targets import budget_for


@dataclass(frozen=True)
class Start:
    """What a handle starts with; the gates are on the generator already.

    ``follows``: inputs of the example's kind change the output, with these weights or others.
    """

    graph: ChannelGraph
    masks: dict[str, ChannelMask]
    original: Cost
    budget: Budget | None
    follows: bool = True


def set_up(
    generator: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Start:
    """Trace ``generator``, vet its groups in numbers, and put masks on the chosen ones (ours).

    Scores start at each channel's norm relative to its group, so around 1 and open.

    Raises:
        ConfigError: a pattern matches nothing.
        GraphError: the forward fails, with or without gates, or nothing can be pruned.
        TargetError: the target is out of reach.
    """
    graph = vetted_trace(generator, trace(generator, tuple(args), kwargs))
    follows = follows_input(generator, graph.example) or follows_input(
        generator, graph.example, randomised=True
    )
    if not follows:
        warnings.warn(
            f"no input of the example's kind changes the output of {type(generator).__name__}: a "
            "cut cannot be tested by it. Give an example whose values it reads",
            stacklevel=5,
        )
    if not graph.groups:
        raise GraphError(
            f"no channel of {type(generator).__name__} can go. "
            f"`gancompress inspect` shows why, layer by layer. {graph.hint}".rstrip()
        )
    chosen = choose_groups(graph, options["include"], options["exclude"])
    # Channels that nobody reads need no gate (and have none): they stay unless a plan drops them.
    chosen = {n for n in chosen if graph[n].readers or graph[n].silencers}
    original, budget = graph.cost(), None
    if options["target"] is not None:
        budget = budget_for(options["target"], original, graph, chosen, options, generator)
        budget = shared(budget, options["round_to"])
    tensors = raw_tensors(generator)
    masks = {}
    for group in (g for g in graph.groups if g.name in chosen):
        mask = ChannelMask(
            group.name, group.size, options["relaxation"], held_open=budget is not None
        )
        with torch.no_grad():
            mask.scores.copy_(torch.from_numpy(channel_norm(group, tensors)))
        masks[group.name] = mask
    before = outputs_of(generator, graph)
    with all_or_nothing((generator,), ()):
        attach(generator, graph, masks, options["site"])
        try_gates(generator, graph, masks, before)
    return Start(graph, masks, original, budget, follows)


def alive_of(plan: Plan, graph: ChannelGraph, masked: Container[str]) -> dict[str, torch.Tensor]:
    """Return which channels ``plan`` keeps, a bool tensor (c,) for each group it names (ours).

    Raises:
        GraphError: the plan names a group this network does not have, or drops channels of a
            group that has no mask.
    """
    alive = {}
    for name, kept in plan.keep.items():
        group = graph[name]
        if not kept or min(kept) < 0 or max(kept) >= group.size:
            raise GraphError(
                f"plan keeps channels {kept[:3]} ... of {name!r}, which has {group.size}: it "
                "was made for another network"
            )
        alive[name] = torch.zeros(group.size, dtype=torch.bool)
        alive[name][kept] = True
        if name not in masked and group.readers and not alive[name].all():
            raise GraphError(f"plan drops channels of {name!r}, which was excluded from masking")
    return alive
