"""Vet: does removing half of every group leave the function as it is? In numbers, beforehand."""

from __future__ import annotations

import numpy as np
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.atoms import Reason
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.graph.trace import trace
from gancompress.graph.trial.arithmetic import trial_plan
from gancompress.graph.trial.silenced import silenced
from gancompress.modules.copying import named_tensors
from gancompress.surgery.cut import cut
from gancompress.surgery.verify import TOLERANCE, distance, fresh_run, run


def vetted_trace(generator: nn.Module, graph: ChannelGraph) -> ChannelGraph:
    """Return ``graph``, or a new one that keeps whole what cannot be removed exactly (ours).

    Shapes were checked while tracing; this finds what only numbers show, such as a scale that the
    forward computes from a channel count. Cuts half of every group for trial in float64; when the
    zeroed and the cut network differ, the groups at fault are found by bisection.

    Raises:
        GraphError: the weights have no values.
    """
    if any(t.is_meta for _, t in named_tensors(generator)):
        raise GraphError(
            f"{type(generator).__name__} is on the meta device, where weights have no values: load "
            "them first (to_empty() and load_state_dict())"
        )
    if not graph.groups or _exact(generator, graph, list(graph.widths)):
        return graph
    culprits = _bisect(generator, graph, list(graph.widths)) or list(graph.widths)
    reason = Reason("verify", "", "removing its channels changes the output in another way")
    keep: list[tuple[np.ndarray, Reason]] = [(graph[n].atoms, reason) for n in culprits]
    return vetted_trace(generator, trace(generator, *graph.example, keep=[*graph.keep, *keep]))


def _bisect(generator: nn.Module, graph: ChannelGraph, names: list[str]) -> list[str]:
    if _exact(generator, graph, names):
        return []
    if len(names) == 1:
        return names
    half = len(names) // 2
    return _bisect(generator, graph, names[:half]) + _bisect(generator, graph, names[half:])


def _exact(generator: nn.Module, graph: ChannelGraph, names: list[str]) -> bool:
    plan = Plan.of(graph, trial_plan(graph, 2, names))
    try:
        small = cut(generator, plan)
    except Exception:
        return False
    inputs, want = fresh_run(silenced(generator, graph, plan.keep), graph.example, 0)
    return distance(want, run(small, inputs)) <= TOLERANCE
