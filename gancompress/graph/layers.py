"""Layers and groups: which layers a group names, and which group a layer stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gancompress.errors import GraphError, closest
from gancompress.graph.groups import ChannelGraph, Group


def layers_of(graph: ChannelGraph, group: Group) -> Iterator[str]:
    """Yield the layers that write or carry a group; parameters of the root by their own name."""
    me = list(graph.widths).index(group.name)
    for name, _ in group.slots:
        path = f".{name}".partition(".parametrizations.")[0].lstrip(".")
        path = path.rpartition(".")[0] if path == name else path
        written = [f.atoms for dim in graph.outputs.get(path, ()) for f in dim]
        if path and any(
            atoms is not None and (graph.owners(atoms) == me).any() for atoms in written
        ):
            yield path
        elif path not in graph.outputs or not path:
            yield path or name


def group_of(graph: ChannelGraph, layer: str) -> Group:
    """Return the group of the channels that ``layer`` writes or carries (ours).

    Raises:
        GraphError: no such layer, none of its channels can go, or they are of several groups.
    """
    groups = [g for g in graph.groups if layer in layers_of(graph, g)]
    if len(groups) != 1:
        raise GraphError(_which(graph, layer, [g.name for g in groups]))
    return groups[0]


def kept_of_layer(graph: ChannelGraph, layer: str, kept: Sequence[int]) -> tuple[str, list[int]]:
    """Return the group that a layer writes or carries, and its channels behind ``kept`` (ours).

    Args:
        graph: the channel groups.
        layer: path of a module.
        kept: output channels of it.

    Raises:
        GraphError: no group or layer of this name, a layer of several groups or none, or a channel
            is kept in part.
    """
    group = group_of(graph, layer)
    me = list(graph.widths).index(group.name)
    found = [
        f.atoms
        for dim in graph.outputs.get(layer, ())
        for f in dim
        if f.atoms is not None and (graph.owners(f.atoms) == me).any()
    ]
    if len(found) != 1 or not (graph.owners(found[0]) == me).all():
        return group.name, [int(i) for i in kept]
    label = graph.solution.label
    place = {int(c): i for i, c in enumerate(label[group.atoms])}
    channels = np.array([place[int(c)] for c in label[found[0]]])
    wanted = sorted({int(i) for i in kept})
    if wanted and (wanted[0] < 0 or wanted[-1] >= len(channels)):
        raise GraphError(
            f"plan keeps channel {wanted[-1]} of layer {layer!r}, which has {len(channels)}"
        )
    chosen = sorted({int(channels[i]) for i in wanted})
    whole = np.flatnonzero(np.isin(channels, chosen))
    if len(whole) != len(wanted):
        extra = next(int(i) for i in whole if int(i) not in wanted)
        raise GraphError(
            f"plan drops channel {extra} of layer {layer!r}, which goes together with one that "
            f"it keeps: name the group {group.name!r} and its channels (0 to {group.size - 1})"
        )
    return group.name, chosen


def _which(graph: ChannelGraph, layer: str, groups: list[str]) -> str:
    if groups:
        return f"layer {layer!r} writes channels of several groups: name one of {groups}"
    if layer in graph.outputs:
        return f"no channel that layer {layer!r} writes can go: `gancompress inspect` says why"
    known = {g.name for g in graph.groups} | {n for g in graph.groups for n in layers_of(graph, g)}
    return f"no channel group or layer {layer!r}.{closest(layer, known)}"
