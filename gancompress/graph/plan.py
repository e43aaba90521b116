"""The frozen choice: the channels that each group keeps, and what follows tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gancompress.errors import CheckpointError, GraphError
from gancompress.graph.attribute_changes import Change, attribute_changes
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.layers import kept_of_layer

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """Kept channels by group, and the surgery that follows from them.

    Attributes:
        keep: group name to the sorted kept channels.
        tensors: parameter or buffer name to the kept indices of each dimension (None: all).
        attributes: (module path, attribute, new value) of Python numbers that must follow.
        sizes: shape of each of those tensors before the cut.
        relative: whether it was made for a network that a live cut had changed already.
    """

    keep: dict[str, list[int]]
    tensors: dict[str, list[list[int] | None]] = field(default_factory=dict)
    attributes: list[Change] = field(default_factory=list)
    sizes: dict[str, list[int]] = field(default_factory=dict, compare=False)
    relative: bool = field(default=False, compare=False)

    @classmethod
    def of(
        cls, graph: ChannelGraph, keep: Mapping[str, Sequence[int]], *, relative: bool = False
    ) -> Plan:
        """Work out the surgery for ``keep`` (groups left out keep everything).

        Args:
            graph: from `gancompress.trace`.
            keep: kept channels by name of a group, or of a layer that writes or carries one, as
                `wrap` takes them in ``include``.
            relative: the graph is of a network that was cut since it was built.

        Raises:
            GraphError: unknown name, no channel left, or an index outside the group.
        """
        full = {}
        for given, indices in keep.items():
            if isinstance(indices, (int, str)) or not isinstance(indices, Iterable):
                raise GraphError(
                    f"plan for {given!r} is {indices!r}: give the channels that stay, such as "
                    f"range({indices if isinstance(indices, int) else 8})"
                )
            name, kept = given, indices
            if name not in graph.widths:
                name, kept = kept_of_layer(graph, given, indices)
            group = graph[name]
            chosen = sorted({int(i) for i in kept})
            if full.get(name, chosen) != chosen:
                raise GraphError(f"the plan names group {name!r} twice, once as {given!r}")
            if not chosen:
                raise GraphError(f"plan keeps no channel of group {name!r}; at least 1 must stay")
            if chosen[0] < 0 or chosen[-1] >= group.size:
                raise GraphError(
                    f"plan keeps channel {chosen[-1]} of group {name!r}, which has {group.size}"
                )
            full[name] = chosen
        for group in graph.groups:
            full.setdefault(group.name, list(range(group.size)))
        alive = graph.alive(full)
        tensors = {
            name: [None if k is None else [int(i) for i in k] for k in row]
            for name, row in kept_indices(graph, alive).items()
        }
        sizes = {name: list(graph.shapes[name]) for name in tensors}
        return cls(full, tensors, attribute_changes(graph, alive), sizes, relative)

    @property
    def widths(self) -> dict[str, int]:
        """Channels kept in each group."""
        return {name: len(kept) for name, kept in self.keep.items()}

    def then(self, later: Plan) -> Plan:
        """Return the one plan that does this cut and then ``later`` (made on the cut network)."""
        tensors = {n: list(row) for n, row in self.tensors.items()}
        for name, row in later.tensors.items():
            mine = tensors.get(name, [None] * len(row))
            tensors[name] = [_compose(a, b) for a, b in zip(mine, row, strict=True)]
        keep = {
            name: _compose(kept, later.keep.get(name)) or kept for name, kept in self.keep.items()
        }
        attributes = {(p, a): v for p, a, v in (*self.attributes, *later.attributes)}
        changes = [(p, a, v) for (p, a), v in attributes.items()]
        return Plan(keep, tensors, changes, {**later.sizes, **self.sizes}, self.relative)

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(
            {
                "format": FORMAT,
                "keep": self.keep,
                "tensors": self.tensors,
                "attributes": [[p, a, _tagged(v)] for p, a, v in self.attributes],
                "sizes": self.sizes,
                **({"relative": True} if self.relative else {}),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan.

        Raises:
            CheckpointError: the text is no plan, or of a newer format.
        """
        try:
            data = json.loads(text)
            if data["format"] > FORMAT:
                raise CheckpointError(
                    f"plan format {data['format']} is newer than {FORMAT}: update gancompress"
                )
            return cls(
                {str(n): _indices(kept) for n, kept in data["keep"].items()},
                {
                    str(n): [None if kept is None else _indices(kept) for kept in row]
                    for n, row in data["tensors"].items()
                },
                [(str(p), str(a), _untagged(v)) for p, a, v in data["attributes"]],
                {str(n): [int(k) for k in shape] for n, shape in data.get("sizes", {}).items()},
                data.get("relative") is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"not a plan ({error!r}): the file is damaged") from error


def _indices(values: Any) -> list[int]:
    """Check kept indices: at least one, whole numbers, rising."""
    if not isinstance(values, list) or not values or not all(type(i) is int for i in values):
        raise ValueError(f"{str(values)[:40]} are no indices")
    if values[0] < 0 or any(a >= b for a, b in zip(values, values[1:], strict=False)):
        raise ValueError(f"indices {str(values)[:40]} do not rise from 0")
    return values


def _tagged(value: Any) -> Any:
    return {"tuple": list(value)} if isinstance(value, tuple) else value


def _untagged(value: Any) -> Any:
    numbers = value["tuple"] if isinstance(value, dict) else value
    if not all(type(v) is int for v in (numbers if isinstance(numbers, list) else [numbers])):
        raise ValueError(f"attribute value {str(value)[:40]} is no whole number")
    return tuple(numbers) if isinstance(value, dict) else numbers


def _compose(first: list[int] | None, second: list[int] | None) -> list[int] | None:
    if second is None:
        return first
    return second if first is None else [first[i] for i in second]


def random_plan(graph: ChannelGraph, keep: float = 0.5, seed: int = 0) -> Plan:
    """Keep a random share of every group (at least one channel), for tests and as a baseline.

    Args:
        graph: from `gancompress.trace`.
        keep: share of each group that stays, in (0, 1].
        seed: of the random choice.

    Raises:
        GraphError: ``keep`` is outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise GraphError(f"keep={keep} must be in (0, 1]")
    rng = np.random.default_rng(seed)
    chosen = {
        g.name: sorted(int(i) for i in rng.permutation(g.size)[: max(1, round(keep * g.size))])
        for g in graph.groups
    }
    return Plan.of(graph, chosen)


def kept_indices(graph: ChannelGraph, alive: np.ndarray) -> dict[str, list[np.ndarray | None]]:
    """Return, for each parameter and buffer that changes, the indices kept in each dimension."""
    changes: dict[str, list[np.ndarray | None]] = {}
    for (name, d), factor in graph.slots.items():
        assert factor.atoms is not None
        mask = alive[factor.atoms]
        if not mask.all():
            row = changes.setdefault(name, [None] * len(graph.shapes[name]))
            row[d] = np.flatnonzero(mask)
    return changes
