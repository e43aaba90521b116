"""Groups of one kind are ranked together."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from gancompress.graph.groups import ChannelGraph, Group
from gancompress.masks.allocation import ALLOCATIONS, Values, shares


@ALLOCATIONS.register("isomorphic")
def isomorphic(graph: ChannelGraph, values: Values, alive: Values) -> dict[str, np.ndarray]:
    """Rank groups of the same structure together; each kind gives one share (Fang et al. 2024).

    Theirs compares subgraphs. Here two groups are of one kind when the parameters that their
    channels own are alike in role, dimension, kernel and how often one channel comes (ours). The
    importance must be comparable across groups: ask for ``ranks: false`` where it ranks.
    """
    kinds: dict[Hashable, list[str]] = {}
    for name in values:
        kinds.setdefault(structure(graph, graph[name]), []).append(name)
    found = {}
    for names in kinds.values():
        joint = shares(
            np.concatenate([values[n] for n in names]), np.concatenate([alive[n] for n in names])
        )
        ends = np.cumsum([len(values[n]) for n in names])[:-1]
        found.update(zip(names, np.split(joint, ends), strict=True))
    return found


def structure(graph: ChannelGraph, group: Group) -> Hashable:
    """Return what the parameters look like that a channel of ``group`` owns, whatever its width."""
    return tuple(
        sorted(
            (tensor.rpartition(".")[2], dim, graph.shapes[tensor][2:], index.shape[1])
            for (tensor, dim), index in group.slots.items()
            if tensor in graph.trainable
        )
    )
