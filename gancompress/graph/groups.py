"""Channel groups and their cost: what `trace` returns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from gancompress.errors import GraphError, closest
from gancompress.graph.atoms import UNREPEATABLE, Dim, Dims, Factor, Reason, Slot, Solution
from gancompress.graph.cost_model import Cost as Cost
from gancompress.graph.cost_model import CostModel

if TYPE_CHECKING:
    from gancompress.graph.sizes import SizeUse
    from gancompress.graph.traced_int import AttributeKey
    from gancompress.graph.tracer import MacTerm, OpRecord, Read


@dataclass
class Group:
    """Channels that live or die together.

    Attributes:
        name: path of the module that writes the channels (unique within the graph).
        size: number of channels.
        slots: for each (parameter or buffer name, dimension) the indices that channel c owns, as
            an int64 array of shape (size, m).
        readers: slots to gate: zeros there make a dead channel invisible to activations.
        silencers: further slots that weight-only reductions (spectral norm) read.
        atoms: one representative atom a channel.
    """

    name: str
    size: int
    slots: dict[Slot, np.ndarray]
    atoms: np.ndarray
    readers: list[Slot] = field(default_factory=list)
    silencers: list[Slot] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Group({self.name!r}, size={self.size}, slots={len(self.slots)})"


class ChannelGraph:
    """The channel groups of one generator, with cost as a function of their widths.

    Made by `gancompress.trace`; holds the example inputs, but no tensors of the generator.

    Attributes:
        passes: the calls that were traced, one after another with state carried on: was each in
            train()? ``starts`` has the index in ``ops`` at which each begins.
        trains: what train() does: ``"same"`` operators as eval() (dropout and statistics of norms
            aside), ``"differs"`` without mattering to a cut, ``"traced"`` with eval(), since cut
            channels mattered, or ``"fails"`` on the example.
    """

    def __init__(
        self,
        *,
        slots: Mapping[Slot, Factor],
        shapes: Mapping[str, tuple[int, ...]],
        trainable: Iterable[str],
        solution: Solution,
        ops: Sequence[OpRecord],
        macs: Sequence[MacTerm],
        reads: Sequence[Read],
        outputs: Mapping[str, Dims],
        uses: Sequence[SizeUse],
        attributes: Mapping[AttributeKey, int],
        fake: bool,
        batch: int,
        sequences: Mapping[tuple[str, str], Sequence[int]],
        example: tuple[tuple[object, ...], dict[str, object]],
        keep: Sequence[tuple[np.ndarray, Reason]] = (),
        form: str = "module",
        exact: bool = True,
        passes: Sequence[bool] = (False,),
        starts: Sequence[int] = (0,),
        trains: str = "fails",
        follow: Set[AttributeKey] = frozenset(),
    ) -> None:
        self.slots, self.shapes, self.trainable = dict(slots), dict(shapes), frozenset(trainable)
        self.solution, self.ops, self.reads = solution, list(ops), list(reads)
        self.outputs, self.uses, self.attributes = dict(outputs), list(uses), dict(attributes)
        self.fake, self.batch, self.form, self.exact = fake, batch, form, exact
        self.passes, self.starts, self.trains = list(passes), list(starts), trains
        self.sequences, self.example, self.keep = dict(sequences), example, list(keep)
        self.follow = frozenset(follow)
        self.groups: list[Group] = collect_groups(self.slots, solution)
        self._by_name = {g.name: g for g in self.groups}
        self._position = {g.name: i for i, g in enumerate(self.groups)}
        self._group_of = self._component_groups()
        self._place_gates()
        self._costs = CostModel(self, macs)

    # -- look-up ---------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, name: str) -> Group:
        """Return the group called ``name``.

        Raises:
            GraphError: no such group; the nearest name is in the message.
        """
        if name not in self._by_name:
            raise GraphError(f"no channel group {name!r}.{closest(name, self._by_name)}")
        return self._by_name[name]

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each group, as traced."""
        return {g.name: g.size for g in self.groups}

    def reason(self, slot: Slot) -> Reason | None:
        """Return why a dimension keeps all its indices, or None when some can go."""
        if slot not in self.slots:
            return Reason("", "", "has size 1")
        atoms = self.slots[slot].atoms
        if atoms is None:
            return Reason("", "", "holds no channels")
        if (self._group_of[self.solution.label[atoms]] >= 0).any():
            return None
        return self.solution.reason_of(atoms)

    @property
    def hint(self) -> str:
        """What holds all channels, or advice where the graph form may free some; else empty."""
        for reason in self.solution.reasons.values():
            if reason.text.startswith(UNREPEATABLE):
                return f"{str(reason)[:1].upper()}{str(reason)[1:]}."
        if self.form == "graph" or not any(r.graph_frees for r in self.solution.reasons.values()):
            return ""
        return (
            "Numbers in the Python code or norms over all channels hold channels: "
            'form="graph" (--form graph) may free them.'
        )

    def cost(self, widths: Mapping[str, int] | None = None) -> Cost:
        """Return parameters and MACs at the given widths (group name to channels; default as is).

        Raises:
            GraphError: an unknown group name, or a width outside 1..size.
        """
        w = np.array([g.size for g in self.groups], np.float64)
        for name, n in (widths or {}).items():
            group = self[name]
            if not 1 <= n <= group.size:
                raise GraphError(f"width {n} of group {name!r} is outside 1..{group.size}")
            w[self._position[name]] = n
        return self._costs.at(w)

    def layer_costs(self, widths: Mapping[str, int] | None = None) -> dict[str, Cost]:
        """Return what each layer costs, by module path, in the order of the generator.

        They add up to `cost`, up to rounding. Arithmetic of no layer (attention's products) counts
        for the module that does it, parameters of the root for ``""``.

        Raises:
            GraphError: as `cost`.
        """
        self.cost(widths)
        return self._costs.by_layer(
            np.array([(widths or {}).get(g.name, g.size) for g in self.groups], np.float64)
        )

    def group_of(self, layer: str) -> Group:
        """Return the group of the channels that ``layer`` writes or carries.

        Raises:
            GraphError: no such layer, none of its channels can go, or they are of several groups.
        """
        from gancompress.graph.layers import group_of  # it looks at graphs, and needs their class

        return group_of(self, layer)

    def marginal(self, widths: Mapping[str, int], kind: str) -> np.ndarray:
        """Return, for each group, what one channel costs now (``kind``: params or macs)."""
        w = np.array([widths[g.name] for g in self.groups], np.float64)
        return self._costs.marginal(w, kind)

    # -- plans -----------------------------------------------------------------------------------
    def alive(self, keep: Mapping[str, Sequence[int]]) -> np.ndarray:
        """Return a bool per atom: does it survive when each named group keeps these channels?"""
        component = np.ones(len(self.solution.frozen), bool)
        for name, kept in keep.items():
            group = self[name]
            dead = np.ones(group.size, bool)
            dead[list(kept)] = False
            component[self.solution.label[group.atoms[dead]]] = False
        return component[self.solution.label]

    def kept(self, plan: object, path: str) -> torch.Tensor:
        """Return the surviving output channels (dim 1) of the module at ``path``, as int64 indices.

        Raises:
            GraphError: the module did not run while tracing (in a graph form none does); the
                nearest path is in the message.
        """
        if path not in self.outputs and self.form == "graph":
            raise GraphError(
                f"the graph form does not call its modules, so {path!r} puts nothing out: leave "
                'form="graph" out to look inside the generator'
            )
        if path not in self.outputs:
            raise GraphError(f"no module {path!r} ran while tracing.{closest(path, self.outputs)}")
        dims = self.outputs[path]
        mask = alive_mask(dims[1] if len(dims) > 1 else dims[-1], self.alive(plan.keep))  # type: ignore[attr-defined]
        return torch.from_numpy(np.flatnonzero(mask))

    def _component_groups(self) -> np.ndarray:
        owner = np.full(len(self.solution.frozen), -1, np.int64)
        for i, group in enumerate(self.groups):
            owner[self.solution.label[group.atoms]] = i
        return owner

    def owners(self, atoms: np.ndarray) -> np.ndarray:
        """Return the group index of each atom, -1 where it is kept."""
        return self._group_of[self.solution.label[atoms]]

    def _place_gates(self) -> None:
        """Choose the slots where each group must be gated, from the contractions that read it."""
        readers: dict[int, dict[Slot, None]] = {}
        others: dict[int, dict[Slot, None]] = {}
        for read in self.reads:
            for i in np.unique(self.owners(read.atoms)):
                if i < 0:
                    continue
                assert read.silence is not None, "unsilenced reads are frozen before"
                table = readers if read.reader else others
                for slot in sorted(read.silence):
                    if slot in self.groups[i].slots:
                        table.setdefault(int(i), {})[slot] = None
        for i, group in enumerate(self.groups):
            group.readers = list(readers.get(i, {}))
            group.silencers = [s for s in others.get(i, {}) if s not in readers.get(i, {})]


def alive_mask(dim: Dim, alive: np.ndarray) -> np.ndarray:
    """Return a bool per index of a dimension (row-major over its factors)."""
    mask = np.ones(1, bool)
    for factor in dim:
        part = np.ones(factor.size, bool) if factor.atoms is None else alive[factor.atoms]
        mask = (mask[:, None] & part[None, :]).reshape(-1)
    return mask


def count_alive(dim: Dim, alive: np.ndarray) -> int:
    """Return how many indices of a dimension survive."""
    return math.prod(f.size if f.atoms is None else int(alive[f.atoms].sum()) for f in dim)


def collect_groups(slots: Mapping[Slot, Factor], solution: Solution) -> list[Group]:
    """Collect the free components by the set of slots they touch: each set is a group."""
    names = list(slots)
    rows_slot, rows_index, rows_atom = [], [], []
    for s, slot in enumerate(names):
        atoms = slots[slot].atoms
        assert atoms is not None
        rows_slot.append(np.full(len(atoms), s))
        rows_index.append(np.arange(len(atoms)))
        rows_atom.append(atoms)
    if not names:
        return []
    slot_of, index, atom = (np.concatenate(r) for r in (rows_slot, rows_index, rows_atom))
    component = solution.label[atom]
    free = ~solution.frozen[component]
    slot_of, index, atom, component = slot_of[free], index[free], atom[free], component[free]
    # A component's signature is the multiset of slots it touches, hashed.
    code = np.random.default_rng(0).integers(1, 2**62, len(names), dtype=np.uint64)
    signature = np.zeros(len(solution.frozen), np.uint64)
    with np.errstate(over="ignore"):
        np.add.at(signature, component, code[slot_of])
    groups: list[Group] = []
    taken: set[str] = set()
    order = np.lexsort((index, slot_of, component))
    slot_of, index, atom, component = (a[order] for a in (slot_of, index, atom, component))
    marks = signature[component]
    first_seen = {}
    for i, m in enumerate(marks):
        first_seen.setdefault(int(m), []).append(i)
    for rows in first_seen.values():
        at = np.array(rows)
        members, first = np.unique(component[at], return_index=True)
        size = len(members)
        if size < 2:
            continue
        # Channels in the order of their first index in the first slot.
        rank = np.argsort(index[at][first], kind="stable")
        members, first = members[rank], first[rank]
        table: dict[Slot, np.ndarray] = {}
        for s in np.unique(slot_of[at]):
            pick = at[slot_of[at] == s]
            by = {c: i for i, c in enumerate(members)}
            place = np.array([by[c] for c in component[pick]])
            sort = np.lexsort((index[pick], place))
            table[names[s]] = index[pick][sort].reshape(size, -1)
        groups.append(Group(_name(table, taken), size, table, atom[at][first]))
    return groups


def _name(table: Mapping[Slot, np.ndarray], taken: set[str]) -> str:
    """Name a group after the module that writes it (its first weight along the output dim)."""
    writers = [p for p, d in table if d == 0 and "weight" in p] or [p for p, _ in table]
    base = writers[0]
    for tail in (".parametrizations", ".weight", ".original", "_orig", "_v", "_g"):
        base = base.split(tail)[0] if tail.startswith(".") else base.removesuffix(tail)
    base = base.removesuffix(".weight") or writers[0]
    name, n = base, 2
    while name in taken:
        name, n = f"{base}#{n}", n + 1
    taken.add(name)
    return name
