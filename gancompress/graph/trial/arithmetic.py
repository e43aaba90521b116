"""What sizes kept in Python demand, by arithmetic alone: channels that go together, or stay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gancompress.graph.atoms import Dim, Reason
from gancompress.graph.groups import ChannelGraph, count_alive
from gancompress.graph.sizes import SizeUse, by_width
from gancompress.graph.solved_sizes import solve_attributes

Count = Callable[[Dim], int]
"""Counts the indices left of a dimension, for one plan."""


@dataclass
class Findings:
    """What a trial cut taught: atoms to keep, each with its reason, and attributes that follow.

    A tie lets the atoms of each column of its matrix go together.
    """

    freezes: list[tuple[np.ndarray, Reason]] = field(default_factory=list)
    uses: list[SizeUse] = field(default_factory=list)
    ties: list[tuple[np.ndarray, Reason]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.freezes or self.uses or self.ties)


def trial_plan(
    graph: ChannelGraph, seed: int, only: Iterable[str] | None = None
) -> dict[str, list[int]]:
    """Keep about half of every group (or of those named), by chance, at least one and never all."""
    rng = np.random.default_rng(seed)
    keep = {}
    chosen = set(graph.widths if only is None else only)
    for group in graph.groups:
        # One alone is of size 1, for which torch (einsum, squeeze) may take another path.
        least = 2 if group.size >= 3 else 1
        n = min(max(least, group.size // 2 + int(rng.integers(-1, 2))), group.size - 1)
        kept = sorted(int(i) for i in rng.permutation(group.size)[:n])
        if group.name in chosen:
            keep[group.name] = kept
    return keep


def free_atoms(
    graph: ChannelGraph, dims: Iterable[Dim], reason: Reason
) -> list[tuple[np.ndarray, Reason]]:
    """Return those atoms of ``dims`` that can go, each with ``reason``."""
    found = []
    for factor in (f for d in dims for f in d):
        if factor.atoms is not None:
            atoms = factor.atoms[graph.owners(factor.atoms) >= 0]
            if atoms.size:
                found.append((atoms, reason))
    return found


def by_arithmetic(graph: ChannelGraph) -> Findings:
    """Find channels that must go together, or stay, for the sizes that Python computes."""
    counts = [partial(count_alive, alive=graph.alive(trial_plan(graph, seed))) for seed in range(8)]
    return _proportions(graph, counts) or _conflicts(graph, counts)


def _proportions(graph: ChannelGraph, counts: Sequence[Count]) -> Findings:
    """Find channels that Python counts in fixed proportion: those of equal place go together.

    ``8 * self.ch`` counts channels by eights: those of equal place in each eighth go together, so
    that a prefix of some eighths stays one. Where a size is ``x.shape[1] // 8``, one of its
    channels goes with the eight of ``x`` of equal place.
    """
    found = Findings()
    for use in graph.uses:
        own = _channels(graph, use.dim)
        source = use.source()
        other = None if source is None else _channels(graph, source)
        if own is None or all(use.demand(c)(graph.attributes) for c in counts):
            continue
        rows = use.multiple(graph.attributes, graph.follow)
        if other is not None:
            units = math.gcd(own.size, other.size)
            text = f"{use.operator} is sized in proportion to other channels"
            blocks = np.concatenate([own.reshape(-1, units), other.reshape(-1, units)])
        elif rows > 1 and own.size % rows == 0:
            text = f"{use.operator} counts its channels {rows} at a time"
            blocks = own.reshape(rows, -1)
        else:
            continue
        label = graph.solution.label[blocks]
        if blocks.shape[1] > 1 and (label != label[0]).any():
            found.ties.append((blocks, Reason(use.operator, use.where, text)))
    return found


def _channels(graph: ChannelGraph, dim: Dim) -> np.ndarray | None:
    """Return the only factor of ``dim`` of which channels can go."""
    free = [f.atoms for f in dim if f.atoms is not None]
    return free[0] if len(free) == 1 and not graph.solution.all_frozen(free[0]) else None


def _conflicts(graph: ChannelGraph, counts: Sequence[Count]) -> Findings:
    """Find attributes that size several groups at once, so that no value fits all.

    Groups sized in proportion (`self.ch // 8` and `self.ch // 2`) lose channels of equal place
    together; any others are kept whole. Pure arithmetic over random widths: a trial run could meet
    a lucky pair.
    """
    found = Findings()
    freezes: dict[int, tuple[np.ndarray, Reason]] = {}
    for count in counts:
        env = {
            **graph.attributes,
            **solve_attributes(graph.uses, graph.attributes, count, graph.follow),
        }
        for use in graph.uses:
            if not use.value.attributes or use.demand(count)(env):
                continue
            peers = [o for o in graph.uses if o.value.attributes & use.value.attributes]
            names = ", ".join(sorted({f"self.{k[1]}" for o in peers for k in o.value.attributes}))
            text = f"{use.operator} is sized by {names}, which sizes other channels too"
            rows = _shared_rows(graph, peers)
            if rows is not None:
                found.ties.append((rows, Reason(use.operator, use.where, text)))
                return found
            for other in peers:
                reason = Reason(other.operator, other.where, text, graph_frees=True)
                for entry in free_atoms(graph, [other.dim], reason):
                    freezes.setdefault(id(other), entry)
    found.freezes += freezes.values()
    return found


def _shared_rows(graph: ChannelGraph, uses: Sequence[SizeUse]) -> np.ndarray | None:
    """Return the channels of uses that are in proportion, those of equal place in one column."""
    common = set.intersection(*(set(use.value.attributes) for use in uses))
    keys = by_width(common, graph.attributes, graph.follow)
    if not any(all(use.follows(key, graph.attributes) for use in uses) for key in keys):
        return None
    channels = [_channels(graph, use.dim) for use in uses]
    sizes = [c.size for c in channels if c is not None]
    units = math.gcd(*sizes)
    if len(sizes) < len(uses) or units == 1:
        return None
    rows = np.concatenate([c.reshape(-1, units) for c in channels if c is not None])
    label = graph.solution.label[rows]
    return None if (label == label[0]).all() else rows
