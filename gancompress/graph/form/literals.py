"""Turn the literal sizes of an exported graph into attributes that a cut can rewrite."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

_SIZES = {
    "view": 1, "_unsafe_view": 1, "view_copy": 1, "reshape": 1, "expand": 1, "broadcast_to": 1,
    "repeat": 1, "tile": 1, "unflatten": 2, "split_with_sizes": 1, "zeros": 0, "ones": 0, "full": 0,
    "empty": 0, "new_zeros": 1, "new_ones": 1, "new_full": 1, "new_empty": 1,
}  # fmt: skip
"""Operators, and which argument of theirs lists sizes."""

_GROUPS = {
    "group_norm": 1, "convolution": 8, **{
        f"conv{kind}{n}d": 6 for kind in ("", "_transpose") for n in (1, 2, 3)
    },
}  # fmt: skip
_ARITHMETIC = (operator.mul, operator.floordiv, operator.add, operator.sub, operator.mod)
_END = 2**63 - 1


def base_name(target: Any) -> str:
    """Return ``view`` for ``aten.view.default``, and "" for what is no operator."""
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.split("::")[-1]
    return ""


def drop_assertions(graph: fx.Graph) -> None:
    """Remove checks of sizes and dtypes: they hold for the old sizes only (ours).

    Checks of values (``torch._assert_async``) stay.
    """
    for node in list(graph.nodes):
        name = base_name(node.target)
        guard = node.op == "call_module" and node.target == "_guards_fn"
        if name == "_assert_scalar":
            guard = all(is_symbolic(a) for a in node.all_input_nodes)
        if name == "_assert_tensor_metadata" or name.startswith("sym_constrain_range"):
            guard = True
        if guard:
            graph.erase_node(node)
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op == "call_function" and is_symbolic(node):
            graph.erase_node(node)


def is_symbolic(node: fx.Node) -> bool:
    """Whether a node computes with sizes of inputs only."""
    if base_name(node.target) == "sym_size":
        return True
    if node.op == "placeholder":  # a part under autocast or no_grad is given the batch size
        return isinstance(node.meta.get("val"), torch.SymInt)
    return (
        getattr(node.target, "__module__", "") in ("_operator", "torch", "math")
        and node.op == "call_function"
        and all(is_symbolic(a) for a in node.all_input_nodes)
        and bool(node.all_input_nodes)
    )


def plant_literals(graph: fx.Graph, free_name: Callable[[str], str]) -> dict[str, int]:
    """Replace every literal size by the read of an attribute (ours).

    Args:
        graph: of an exported module, changed in place.
        free_name: makes an attribute name of the module that is not in use.

    Returns:
        The attributes and their values.
    """
    _spell_out(graph)
    _unshare(graph)
    numbers: dict[str, int] = {}
    for node in list(graph.nodes):
        for place in _places(node):
            value = _get(node, place)
            if type(value) is not int or not 1 < value < _END:
                continue
            key = free_name(f"{node.name}_size{place[0] if place[1] is None else place[1]}")
            numbers[key] = value
            with graph.inserting_before(node):
                read = graph.create_node("get_attr", key, name=key)
            read.meta["line"] = node.meta.get("line", "")
            _set(node, place, read)
    return numbers


def sizes_of(node: fx.Node) -> list[int]:
    """Return the literal sizes that a node holds."""
    found = [_get(node, place) for place in _places(node)]
    return [n for n in found if type(n) is int and 1 < n < _END]


Place = tuple[int, int | None]
"""(argument, index inside it)."""


def _places(node: fx.Node) -> list[Place]:
    """Return where a node may hold sizes of channels."""
    if node.op != "call_function":
        return []
    if node.target in _ARITHMETIC and is_symbolic(node):
        return [(i, None) for i in range(len(node.args))]
    name = base_name(node.target)
    if name in _SIZES:
        at = _SIZES[name]
        listed = node.args[at] if len(node.args) > at else None
        if not isinstance(listed, (list, tuple)):
            return []
        chosen = range(len(listed))
        if name in ("repeat", "tile"):
            # The number of copies of real channels stays; a size of 1 becomes channels.
            x: Any = node.args[0]
            old = (1,) * len(listed) + tuple(x.meta["val"].shape)
            chosen = [i for i in chosen if old[len(old) - len(listed) + i] == 1]
        return [(at, i) for i in chosen]
    if name in _GROUPS and len(node.args) > _GROUPS[name]:
        return [(_GROUPS[name], None)]
    if name == "slice" and (len(node.args) < 5 or node.args[4] == 1):
        return [(i, None) for i in (2, 3) if len(node.args) > i]
    return []


def _get(node: fx.Node, place: Place) -> Any:
    value: Any = node.args[place[0]]
    return value if place[1] is None else value[place[1]]


def _set(node: fx.Node, place: Place, new: fx.Node) -> None:
    args: list[Any] = list(node.args)
    if place[1] is None:
        args[place[0]] = new
    else:
        items = list(args[place[0]])
        items[place[1]] = new
        args[place[0]] = items
    node.args = tuple(args)


def _unshare(graph: fx.Graph) -> None:
    """Compute a size anew for each use: export shares ``batch * 64`` between unlike tensors."""
    for node in reversed(list(graph.nodes)):
        if node.op != "call_function" or base_name(node.target) or not is_symbolic(node):
            continue
        taken = False
        for user in list(node.users):

            def own(arg: fx.Node, node: fx.Node = node, user: fx.Node = user) -> fx.Node:
                nonlocal taken
                if arg is not node or not taken:
                    taken = taken or arg is node
                    return arg
                with graph.inserting_before(user):
                    return graph.node_copy(node)

            user.args = fx.map_arg(user.args, own)
            user.kwargs = fx.map_arg(user.kwargs, own)


def _spell_out(graph: fx.Graph) -> None:
    """Write every slice from the front, and every split with the sizes of its parts."""
    ops = torch.ops.aten
    for node in list(graph.nodes):
        name = base_name(node.target)
        if name in ("narrow", "slice"):
            x: Any = node.args[0]
            n = x.meta["val"].shape[int(node.args[1]) if len(node.args) > 1 else 0]  # type: ignore[arg-type]
            row = [*node.args, *(0, 0, _END, 1)[len(node.args) - 1 :]]
            if type(n) is not int or not all(type(a) is int for a in row[1:] if a is not None):
                continue
            if name == "narrow":
                start = int(row[2]) % n if int(row[2]) < 0 else int(row[2])
                row = [x, row[1], start, start + int(row[3]), 1]
                node.target = ops.slice.Tensor
            start, stop = 0 if row[2] is None else row[2], _END if row[3] is None else row[3]
            edges = [min(max(e + n, 0), n) if e < 0 else e for e in (start, stop)]
            node.args = (x, row[1], *edges, row[4])
        elif name in ("cat", "stack"):
            _repeat_copies(graph, node, stacked=name == "stack")
        elif name in ("split", "chunk") and "val" in node.meta:
            at = int(node.args[2]) if len(node.args) > 2 else int(node.kwargs.get("dim", 0))  # type: ignore[arg-type]
            sizes = [t.shape[at] for t in node.meta["val"]]
            if all(type(n) is int for n in sizes):
                node.target = ops.split_with_sizes.default
                node.args, node.kwargs = (node.args[0], sizes, at), {}


def _repeat_copies(graph: fx.Graph, node: fx.Node, stacked: bool) -> None:
    """Write one tensor that is joined over and over as a repetition, whose number is a size."""
    pieces: Any = node.args[0]
    if len(pieces) < 2 or any(piece is not pieces[0] for piece in pieces):
        return
    x: fx.Node = pieces[0]
    rank = len(x.meta["val"].shape) + stacked
    at = int(node.args[1]) if len(node.args) > 1 else int(node.kwargs.get("dim", 0))  # type: ignore[arg-type]
    at %= rank
    if stacked:
        with graph.inserting_before(node):
            wide = graph.call_function(torch.ops.aten.unsqueeze.default, (x, at))
        wide.meta = {**x.meta, "val": x.meta["val"].unsqueeze(at)}
        x = wide
    times = [1] * rank
    times[at] = len(pieces)
    node.target = torch.ops.aten.repeat.default
    node.args, node.kwargs = (x, times), {}
