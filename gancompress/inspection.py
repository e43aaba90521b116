"""inspect(): for every layer, what can go, what cannot and why; and how small the whole can get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from gancompress.graph.atoms import Dim
from gancompress.graph.form.to_graph import in_form
from gancompress.graph.groups import ChannelGraph, Cost
from gancompress.graph.second_opinion import SecondOpinion
from gancompress.graph.second_opinion import second_opinion as compare
from gancompress.graph.trace import trace
from gancompress.modules.nested import call_arguments
from gancompress.surgery.numeric_check import refuse_nan, vetted_trace

_NORMS = (
    nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.RMSNorm,
)  # fmt: skip
_LAYERS = (
    nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.Embedding, nn.RNNBase, *_NORMS,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One layer: ``status`` is prunable, partly, or kept; ``reason`` says why channels stay.

    ``params`` and ``macs`` (of one sample) are what the layer costs; the others what one channel
    of its groups costs in all layers.
    """

    layer: str
    kind: str
    channels: int
    prunable: int
    status: str
    groups: tuple[str, ...]
    params_per_channel: int
    macs_per_channel: int
    reason: str
    params: int = 0
    macs: int = 0


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect`; prints as a table, and `to_dict` is JSON-ready."""

    rows: list[Row]
    cost: Cost
    smallest: Cost
    predictions: dict[str, Cost]
    graph: ChannelGraph
    second_opinion: SecondOpinion | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: layers, cost, smallest reachable cost, predictions by keep ratio."""
        found: dict[str, Any] = {
            "layers": [asdict(r) for r in self.rows],
            "cost": asdict(self.cost),
            "smallest": asdict(self.smallest),
            "predictions": {k: asdict(v) for k, v in self.predictions.items()},
            "groups": {g.name: g.size for g in self.graph.groups},
        }
        if self.second_opinion is not None:
            found["second_opinion"] = self.second_opinion.to_dict()
        return found

    def __str__(self) -> str:
        lines = [f"{'layer':<32} {'kind':<16} {'channels':>8} {'can go':>7}  group or reason"]
        for r in self.rows:
            tail = ", ".join(r.groups) if r.status == "prunable" else r.reason
            if r.status == "partly":
                tail = f"{', '.join(r.groups)}; the rest: {r.reason}"
            lines.append(f"{r.layer:<32} {r.kind:<16} {r.channels:>8} {r.prunable:>7}  {tail}")
        lines.append("")
        lines.append(f"{'':<24}{'parameters':>14}{'MACs':>18}{'compression':>13}")
        table = {"as it is": self.cost, **self.predictions, "smallest reachable": self.smallest}
        for name, cost in table.items():
            ratio = self.cost.params / max(cost.params, 1)
            lines.append(f"{name:<24}{cost.params:>14,}{cost.macs:>18,}{ratio:>12.2f}x")
        lines += ["", self.graph.hint] if self.graph.hint else []
        lines += ["", str(self.second_opinion)] if self.second_opinion is not None else []
        return "\n".join(lines)

    def __rich__(self) -> Any:
        from rich.console import Group as Stack
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, right in (
            ("layer", 0),
            ("kind", 0),
            ("channels", 1),
            ("can go", 1),
            ("group, or why kept", 0),
        ):
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for r in self.rows:
            style = {"prunable": "green", "partly": "yellow", "kept": ""}[r.status]
            tail = ", ".join(r.groups) if r.status == "prunable" else r.reason
            if r.status == "partly":
                tail = f"{', '.join(r.groups)}; the rest: {r.reason}"
            tail = " ".join("\n".join(_lines(word)) for word in tail.split())
            layer = "\n".join(_lines(r.layer))
            table.add_row(layer, r.kind, f"{r.channels:,}", Text(f"{r.prunable:,}", style), tail)
        sizes = Table(box=None, pad_edge=False, header_style="bold")
        for name, right in (("", 0), ("parameters", 1), ("MACs", 1), ("compression", 1)):
            sizes.add_column(name, justify="right" if right else "left")
        whole = {"as it is": self.cost, **self.predictions, "smallest reachable": self.smallest}
        for name, cost in whole.items():
            ratio = self.cost.params / max(cost.params, 1)
            sizes.add_row(name, f"{cost.params:,}", f"{cost.macs:,}", f"{ratio:.2f}x")
        hint = [Text(""), Text(self.graph.hint)] if self.graph.hint else []
        other = self.second_opinion
        opinion = [Text(""), Text(str(other))] if other is not None else []
        return Stack(table, Text(""), sizes, *hint, *opinion)


def _lines(path: str, width: int = 24) -> list[str]:
    """Return a dotted path on lines of about ``width`` characters, broken after a dot."""
    lines = [""]
    for piece in (f"{p}." for p in path.split(".")):
        if lines[-1] and len(lines[-1] + piece) > width + 1:
            lines.append("")
        lines[-1] += piece
    return [*lines[:-1], lines[-1][:-1]]


def inspect(
    generator: nn.Module,
    example: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    form: str = "module",
    second_opinion: bool = False,
) -> Inspection:
    """Say for each convolution, linear and norm whether its channels can go, else why not (ours).

    Args:
        generator: any module; it is not touched.
        example: inputs of one call, as for `trace`.
        kwargs: keyword arguments beside a tuple.
        form: ``"graph"`` for what can go in the graph form (see `to_graph`).
        second_opinion: compare the groups with torch-pruning's (see `gancompress.second_opinion`).

    Raises:
        GraphError: the forward fails on the example, or has no graph form.
    """
    if form != "module":  # its export and comparison would blame the graph
        refuse_nan(generator, call_arguments(example, kwargs))
    given, generator = generator, in_form(generator, example, kwargs, form)
    graph = vetted_trace(generator, trace(generator, example, kwargs))
    price = {
        kind: dict(zip(graph.widths, graph.marginal(graph.widths, kind), strict=True))
        for kind in ("params", "macs")
    }
    costs = graph.layer_costs()
    rows = [
        _with_cost(_row(graph, path, sub, price), costs)
        for path, sub in generator.named_modules()
        if _counts(sub) and ".parametrizations." not in path
    ]
    predictions = {
        f"keep {share:.0%} of each group": graph.cost(
            {g.name: max(1, round(share * g.size)) for g in graph.groups}
        )
        for share in (0.75, 0.5, 0.25)
    }
    smallest = graph.cost(dict.fromkeys(graph.widths, 1))
    opinion = compare(given, example, kwargs, graph=graph) if second_opinion else None
    return Inspection(rows, graph.cost(), smallest, predictions, graph, opinion)


def _counts(sub: nn.Module) -> bool:
    """Whether a module is a layer of its own: torch's, or one that owns a weight matrix."""
    if isinstance(sub, _LAYERS):
        return True
    if isinstance(sub, nn.utils.parametrize.ParametrizationList):
        return False
    return any(p is not None and p.dim() >= 2 for p in sub._parameters.values())


def _row(
    graph: ChannelGraph, path: str, sub: nn.Module, price: Mapping[str, Mapping[str, float]]
) -> Row:
    kind = type(sub).__name__.removeprefix("Parametrized")
    found = _written(graph, path, sub)
    if found is None:
        return Row(path, kind, 0, 0, "kept", (), 0, 0, "is not used by this forward")
    channels, free, groups, reason = 1, 0, (), "has size 1"
    if found:
        channels = 1
        share = 1.0
        names: dict[str, None] = {}
        reasons = []
        for factor in found:
            channels *= factor.size
            if factor.atoms is None:
                reasons.append(factor.why or "holds no channels")
                continue
            owners = graph.owners(factor.atoms)
            share *= float((owners < 0).mean())
            names.update({graph.groups[i].name: None for i in np.unique(owners[owners >= 0])})
            if (owners < 0).any():
                why = graph.solution.reason_of(factor.atoms)
                reasons.append(str(why) if why is not None else "a single channel of its kind")
        free = round(channels * (1 - share)) if names else 0
        groups, reason = tuple(names), "; ".join(dict.fromkeys(reasons))
    status = "prunable" if free == channels else "partly" if free else "kept"
    return Row(
        path, kind, channels, free, status, groups,
        round(sum(price["params"][g] for g in groups)),
        round(sum(price["macs"][g] for g in groups) / graph.batch),
        "" if status == "prunable" else reason,
    )  # fmt: skip


def _with_cost(row: Row, costs: Mapping[str, Cost]) -> Row:
    cost = costs.get(row.layer)
    return row if cost is None else replace(row, params=cost.params, macs=cost.macs)


def _written(graph: ChannelGraph, path: str, sub: nn.Module) -> Dim | None:
    """Return the dimension of channels that a layer writes; None when it did not take part."""
    if path in graph.outputs:
        dims = graph.outputs[path]
        last = isinstance(
            sub, (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.RNNBase)
        )
        if not dims:
            return ()
        if last or len(dims) == 1:
            return dims[-1]
        channels_last = all(f.atoms is None for f in dims[1]) and any(
            f.atoms is not None for f in dims[-1]
        )
        return dims[-1] if channels_last and not isinstance(sub, _LAYERS) else dims[1]
    # It did not run as a module, but its parameters may have (as in a graph form).
    at = 1 if isinstance(sub, (nn.modules.conv._ConvTransposeNd, nn.Embedding)) else 0
    start = f"{path}." if path else ""
    mine = [
        (name, d) for name, d in graph.slots if d == at and name.startswith(start)
        and "." not in name[len(start) :].removeprefix("parametrizations.weight.")
    ]  # fmt: skip
    return (graph.slots[mine[0]],) if mine else None
