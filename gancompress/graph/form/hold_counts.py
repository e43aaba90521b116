"""Let an exported graph divide by the number of channels that it was made with (ours)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from gancompress.graph.form import fixed_count_norms as counted
from gancompress.graph.form.literals import base_name

_SPREADS = {
    "var": counted.variance_of, "std": counted.deviation_of,
    "var_mean": counted.variance_and_mean_of, "std_mean": counted.deviation_and_mean_of,
}  # fmt: skip


def hold_counts(graph: fx.Graph) -> None:
    """Replace means, variances and norms by sums over a held count; hold attention's scale.

    Layer norm, RMS norm, group norm of one group and pixel norm then lose single channels: what is
    removed counts as zero. Before any cut, the same numbers come out, up to rounding.
    """
    for node in list(graph.nodes):
        name = base_name(node.target)
        if node.op != "call_function" or not name:
            continue
        given = _named(node)
        if name == "mean":
            _hold_mean(node, given)
        elif name in _SPREADS:
            _hold_spread(node, _SPREADS[name], given)
        elif name in ("layer_norm", "rms_norm"):
            _hold_norm(node, name, given)
        elif name == "group_norm" and given["num_groups"] == 1:
            _hold_one_group(node, given)
        elif name == "scaled_dot_product_attention" and given["scale"] is None:
            width = _shape(given["query"])[-1]
            if type(width) is int:
                node.kwargs = {**node.kwargs, "scale": width**-0.5}


def _hold_mean(node: fx.Node, given: dict[str, Any]) -> None:
    x = given["self"]
    dims = _axes(x, given.get("dim"))
    keepdim = bool(given.get("keepdim"))
    count = _count(node, x, dims)
    if count is None:
        return
    centred = _square_of_deviation(x, dims)
    if centred is not None and given["dtype"] is None:
        # The mean of squared deviations: zeros would add to it, unlike to the variance.
        _replace(node, counted.variance_of, centred, dims, 0, keepdim, *count)
    else:
        _replace(node, counted.mean_of, x, dims, keepdim, *count, given["dtype"])


def _square_of_deviation(node: Any, dims: Sequence[int]) -> fx.Node | None:
    """Return x where ``node`` is ``(x - mean of x) ** 2`` over the same dimensions."""
    name = base_name(node.target)
    square = name == "square" or (name == "pow" and node.args[1] == 2)
    square = square or (name == "mul" and node.args[0] is node.args[1])
    inner = node.args[0] if square else None
    if not isinstance(inner, fx.Node) or base_name(inner.target) != "sub" or inner.kwargs:
        return None
    for x, mean in (inner.args[:2], inner.args[1::-1]):
        if (
            isinstance(x, fx.Node)
            and isinstance(mean, fx.Node)
            and mean.target is counted.mean_of
            and mean.args[:2] == (x, dims)
            and (mean.args[2] or len(dims) == len(_shape(x)))
        ):
            return x
    return None


def _hold_spread(node: fx.Node, function: Callable[..., Any], given: dict[str, Any]) -> None:
    x = given["self"]
    dims = _axes(x, given.get("dim"))
    count = _count(node, x, dims)
    correction = given.get("correction", int(given.get("unbiased", True)))
    if count is not None:
        values = (1 if correction is None else correction, bool(given.get("keepdim")), *count)
        _replace(node, function, x, dims, *values)


def _hold_norm(node: fx.Node, name: str, given: dict[str, Any]) -> None:
    x, rank = given["input"], len(given["normalized_shape"])
    count = _fixed_count(x, range(-rank, 0))
    if not count:
        return
    if name == "layer_norm":
        values = (given["weight"], given["bias"], given["eps"], count)
        _replace(node, counted.layer_norm_of, x, rank, *values)
    else:
        _replace(node, counted.rms_norm_of, x, rank, given["weight"], given["eps"], count)


def _hold_one_group(node: fx.Node, given: dict[str, Any]) -> None:
    x = given["input"]
    count = _fixed_count(x, range(1, len(_shape(x))))
    if count:
        values = (given["weight"], given["bias"], given["eps"], count)
        _replace(node, counted.one_group_norm_of, x, *values)


def _named(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of an operator by name, defaults included."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    found = {a.name: a.default_value if a.has_default_value() else None for a in schema}
    found |= {a.name: v for a, v in zip(schema, node.args, strict=False)}
    return found | dict(node.kwargs)


def _shape(node: Any) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape) if isinstance(node, fx.Node) else ()


def _axes(x: fx.Node, given: Any) -> list[int]:
    """Return the reduced dimensions, counted from the front."""
    rank = len(_shape(x))
    if given is None or given == []:
        return list(range(rank))
    listed = given if isinstance(given, (list, tuple)) else [given]
    return sorted(d % max(rank, 1) for d in listed)


def _fixed_count(x: Any, dims: Sequence[int]) -> int:
    """Return how many values are reduced; 0 where that follows the batch, or is one."""
    shape = _shape(x)
    sizes = [shape[d] for d in dims]
    if not all(type(n) is int for n in sizes) or math.prod(sizes) == 1:
        return 0
    return math.prod(sizes)


def _count(node: fx.Node, x: Any, dims: Sequence[int]) -> tuple[Any, ...] | None:
    """Return the held count of what is reduced, and the batch size where that is part of it.

    None where one value is reduced, or the count follows the batch in another way.
    """
    fixed = _fixed_count(x, dims)
    shape = _shape(x)
    if fixed:
        return fixed, 1
    symbols = [n for d in dims if isinstance(n := shape[d], torch.SymInt)]
    if not symbols:
        return None
    total = math.prod(n for d in dims if type(n := shape[d]) is int)
    rest = math.prod(s.node.expr for s in symbols)  # type: ignore[call-overload]
    factor, symbol = rest.as_coeff_Mul()  # type: ignore[attr-defined]
    batch = _size_node(node, symbol)
    if batch is None or not factor.is_Integer or total * int(factor) == 1:
        return None
    return total * int(factor), batch


def _size_node(node: fx.Node, symbol: Any) -> fx.Node | None:
    """Return a node before ``node`` that is the batch size ``symbol``; None: there is none."""
    for known in node.graph.nodes:
        if known is node:
            return None
        value = known.meta.get("val")
        if isinstance(value, torch.SymInt) and value.node.expr == symbol:
            return known
        if not isinstance(value, torch.Tensor):
            continue
        for d, n in enumerate(value.shape):
            if isinstance(n, torch.SymInt) and n.node.expr == symbol:
                with node.graph.inserting_before(node):
                    made = node.graph.call_function(torch.ops.aten.sym_size.int, (known, d))
                made.meta["val"] = n
                return made
    return None


def _replace(node: fx.Node, function: Callable[..., Any], *values: Any) -> None:
    """Call ``function`` in the place of ``node``, which keeps its name, users and line."""
    node.target, node.args, node.kwargs = function, values, {}
