"""Where channels lie in the operators that a trace has seen."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.graph.groups import ChannelGraph, alive_mask
from gancompress.graph.plan import Plan
from gancompress.graph.tracer import OpRecord
from gancompress.surgery.reconstruction.walk import CONTRACTIONS


def traced_contractions(graph: ChannelGraph) -> list[OpRecord]:
    """Return the contractions of one traced call in eval mode, in order."""
    first = next((i for i, train in enumerate(graph.passes) if not train), 0)
    end = graph.starts[first + 1] if first + 1 < len(graph.starts) else len(graph.ops)
    return [op for op in graph.ops[graph.starts[first] : end] if op.name in CONTRACTIONS]


def kept_outputs(graph: ChannelGraph, plan: Plan) -> list[Tensor]:
    """Return, for each of them, the output channels that the cut keeps."""
    alive = graph.alive(plan.keep)
    found: list[Tensor] = []
    for op in traced_contractions(graph):
        masks = [alive_mask(dim, alive) for dim in op.outputs[0]]
        if len(masks) < 2:  # a product of vectors: no walk stops there
            found.append(torch.zeros(0, dtype=torch.int64))
            continue
        at = 1
        # `weight @ x` puts its channels out in dim 0.
        if op.name in ("mm", "addmm") and masks[at].all() and not masks[0].all():
            at = 0
        found.append(torch.from_numpy(masks[at].nonzero()[0]))
    return found
