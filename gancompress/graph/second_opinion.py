"""Second opinion: compare our channel groups with torch-pruning's, channel by channel.

torch-pruning walks the autograd graph and knows a table of module types; we watch operators. Where
both can build a graph they must agree on which rows and columns go together, or differ for a
reason that `EXPLAINED` states.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from gancompress.graph.atoms import Slot
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.trace import trace
from gancompress.modules.copying import all_tensors, copy_with
from gancompress.modules.nested import call_arguments

Member = tuple[Slot, int]
"""One index of one parameter dimension."""

EXPLAINED: dict[str, str] = {
    "boundary": "torch-pruning cuts the network's own outputs, or channels tied to an input, "
    "unless the caller ignores those layers; we keep what is seen from outside",
    "kept": "we keep the channels because of an operator that mixes or counts them (softmax, mean, "
    "layer norm, a literal size); torch-pruning has no rule against the cut, which changes the "
    "function or breaks the forward",
    "whole": "one channel of ours is several of theirs: groups of a group norm or grouped "
    "convolution, halves of a chunk, blocks of a pixel shuffle or a view go together or not at all",
    "rider": "torch-pruning leaves out a tensor that must follow (a parameter that no module of "
    "its table owns, a layer behind an operator that it does not follow, the partner that keeps "
    "the groups of a grouped convolution equal)",
    "linked": "torch-pruning ties channels that are independent: one channel of a mask or a shared "
    "slope with every feature, attention values with queries, a view whose map it does not know",
    "index": "torch-pruning follows a channel to another index than we do: through pixel shuffle, "
    "channel shuffle, roll, strided views and pairs of real and imaginary parts, a second "
    "split, or a concatenation whose first part cannot go (it forgets the offset). Our cut of such "
    "networks is verified in float64; between plain layers this class must not appear",
}
"""The classes of disagreement, and why each is theirs or a difference of purpose."""

_RAW = (
    "weight",
    "weight_v",
    "weight_orig",
    "parametrizations.weight.original1",
    "parametrizations.weight.original",
    "running_mean",
)


@dataclass(frozen=True)
class Disagreement:
    """One channel on which the two graphs differ; `kind` is a key of `EXPLAINED`."""

    kind: str
    layer: str
    channel: int
    detail: str


@dataclass(frozen=True)
class Difference:
    """Channels of one layer on which both differ in the same way."""

    layer: str
    kind: str
    channels: int
    detail: str


@dataclass(frozen=True)
class SecondOpinion:
    """Where torch-pruning's groups and ours differ; made by `second_opinion`, prints as text.

    Attributes:
        built: whether torch-pruning could build a graph; `problem` says why not.
        channels: how many output channels were compared.
        agreed: how many of them have the same members in both graphs.
        disagreements: the others, at most one a channel.
        kinds: how many of each class; `EXPLAINED` says what a class means.
    """

    built: bool
    channels: int = 0
    agreed: int = 0
    disagreements: tuple[Disagreement, ...] = ()
    problem: str = ""
    kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def differences(self) -> list[Difference]:
        """The disagreements by layer and class, each with the first one's detail."""
        found: dict[tuple[str, str], list[Disagreement]] = {}
        for d in self.disagreements:
            found.setdefault((d.layer, d.kind), []).append(d)
        return [
            Difference(layer, kind, len(same), same[0].detail)
            for (layer, kind), same in found.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, JSON-ready: counts, differences by layer, and why."""
        return {
            "by": "torch-pruning",
            "built": self.built,
            "problem": self.problem,
            "channels": self.channels,
            "agreed": self.agreed,
            "differences": [asdict(d) for d in self.differences],
            "why": {kind: EXPLAINED[kind] for kind in self.kinds},
        }

    def __str__(self) -> str:
        if not self.built:
            return (
                f"second opinion: torch-pruning cannot build its graph of it ({self.problem}). "
                "Nothing was compared"
            )
        lines = [
            f"second opinion: torch-pruning groups {self.agreed:,} of {self.channels:,} channels "
            "as we do"
        ]
        for kind in self.kinds:
            lines += ["", f"{kind}: {EXPLAINED[kind]}."]
            lines += [
                f"  {d.layer}: {d.channels:,} channels ({d.detail})"
                for d in self.differences
                if d.kind == kind
            ]
        return "\n".join(lines)


def second_opinion(
    generator: nn.Module,
    example: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    graph: ChannelGraph | None = None,
) -> SecondOpinion:
    """Compare our channel groups with torch-pruning's on one generator (ours).

    Args:
        generator: any module; it is not touched.
        example: inputs of one call, as for `trace`.
        kwargs: keyword arguments beside a tuple.
        graph: our graph, when it is there already (that of the graph form fits as well).

    Raises:
        GraphError: our own trace fails. A failure of torch-pruning is a result, not an error.
    """
    graph = trace(generator, example, kwargs) if graph is None else graph
    args, kw = call_arguments(example, kwargs)
    try:
        theirs = list(_their_groups(generator, args, kw))
    except Exception as error:
        told = " ".join(str(error).split())[:300]
        return SecondOpinion(False, problem=f"{type(error).__name__}: {told}")
    if not theirs:
        return SecondOpinion(False, problem="it finds no layer of its table")
    ours = _our_members(graph)
    known = {slot for _, members in theirs for group in members.values() for slot, _ in group}
    found: list[Disagreement] = []
    channels = 0
    for root, members in theirs:
        for channel, group in sorted(members.items()):
            channels += 1
            mine = ours.get((root, channel))
            difference = _compare(graph, root, channel, mine, group, known)
            if difference is not None:
                found.append(difference)
    kinds: dict[str, int] = {}
    for d in found:
        kinds[d.kind] = kinds.get(d.kind, 0) + 1
    return SecondOpinion(True, channels, channels - len(found), tuple(found), kinds=kinds)


def _our_members(graph: ChannelGraph) -> dict[Member, frozenset[Member]]:
    """Map every index that can go to all indices that go with it."""
    table: dict[Member, frozenset[Member]] = {}
    for group in graph.groups:
        for c in range(group.size):
            together = frozenset(
                (slot, int(i)) for slot, index in group.slots.items() for i in index[c]
            )
            table.update(dict.fromkeys(together, together))
    return table


def _compare(
    graph: ChannelGraph,
    root: Slot,
    channel: int,
    mine: frozenset[Member] | None,
    theirs: frozenset[Member],
    known: set[Slot],
) -> Disagreement | None:
    layer = root[0]
    if mine is None:
        reason = graph.reason(root)
        text = str(reason) if reason is not None else "not a channel of any group"
        outside = reason is not None and (
            reason.operator == "output" or "input" in reason.text or "size 1" in reason.text
        )
        return Disagreement("boundary" if outside else "kept", layer, channel, text)
    mine = frozenset(m for m in mine if m[0] in known)
    if mine == theirs:
        return None
    extra, lacking = mine - theirs, theirs - mine
    shown = ", ".join(f"{n}[{d}]={i}" for (n, d), i in sorted(extra | lacking)[:4])
    if not lacking:
        shared = {slot for slot, _ in theirs}
        kind = "whole" if any(slot in shared for slot, _ in extra) else "rider"
    else:
        kind = "linked" if not extra else "index"
    return Disagreement(kind, layer, channel, shown)


def _their_groups(
    generator: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[Slot, dict[int, frozenset[Member]]]]:
    """Yield (root slot, members by channel of the root) of every group torch-pruning finds."""
    import torch_pruning

    twin = copy_with(generator, _independent)
    twin.eval()  # not chained: some classes override it and return nothing
    names = _slot_names(twin)

    def forward(module: nn.Module, inputs: Any) -> Any:
        return module(*inputs, **kwargs)

    devices = {t.device for t in all_tensors(twin) if t.is_cuda}
    fork = torch.random.fork_rng(devices=sorted(devices, key=str))
    with warnings.catch_warnings(), torch.enable_grad(), fork:
        warnings.simplefilter("ignore")
        dependencies = torch_pruning.DependencyGraph().build_dependency(
            twin, args, forward_fn=forward, verbose=False
        )
        groups = list(dependencies.get_all_groups())
    for group in groups:
        first = group[0].dep.target.module
        root = _slot(first, "out", names)
        if root is None:
            continue
        members: dict[int, set[Member]] = {}
        for item in group:
            side = "in" if dependencies.is_in_channel_pruning_fn(item.dep.handler) else "out"
            module = item.dep.target.module
            slot = _slot(module, side, names)
            if slot is None:
                continue
            for index, source in zip(item.idxs, item.root_idxs, strict=True):
                members.setdefault(source, set()).add((slot, _index(module, side, index)))
        merged: dict[int, set[Member]] = {}
        for channel, found in members.items():
            merged.setdefault(_index(first, "out", channel), set()).update(found)
        yield root, {c: frozenset(m) for c, m in merged.items()}


def _independent(t: torch.Tensor) -> torch.Tensor:
    """Copy one tensor; torch-pruning needs gradients to see the graph."""
    new = t.detach().clone()
    return nn.Parameter(new) if isinstance(t, nn.Parameter) and t.is_floating_point() else new


def _slot_names(module: nn.Module) -> dict[int, str]:
    """Map id(submodule) to the name of the raw tensor that shows its widths."""
    have = {n for n, _ in module.named_parameters()} | {n for n, _ in module.named_buffers()}
    found = {}
    for path, sub in module.named_modules():
        stem = f"{path}." if path else ""
        raw = next((f"{stem}{n}" for n in _RAW if f"{stem}{n}" in have), None)
        if raw is not None:
            found[id(sub)] = raw
    return found


def _slot(module: Any, side: str, names: Mapping[int, str]) -> Slot | None:
    """Return the dimension that torch-pruning's `side` of a layer cuts, or None if not compared."""
    name = names.get(id(module))
    if name is None:
        return None
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return name, 0 if side == "in" or _depthwise(module) else 1
    if isinstance(module, nn.modules.conv._ConvNd):
        return name, 1 if side == "in" and not _depthwise(module) else 0
    if isinstance(module, nn.Linear):
        return name, 1 if side == "in" else 0
    per_channel = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.PReLU)
    return (name, 0) if isinstance(module, per_channel) else None


def _depthwise(module: nn.modules.conv._ConvNd) -> bool:
    return 1 < module.groups == module.in_channels == module.out_channels


def _index(module: Any, side: str, index: int) -> int:
    """Turn a channel number of a grouped convolution into an index of its weight."""
    if not isinstance(module, nn.modules.conv._ConvNd) or _depthwise(module):
        return index
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return index % (module.out_channels // module.groups) if side == "out" else index
    return index % (module.in_channels // module.groups) if side == "in" else index
