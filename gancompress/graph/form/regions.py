"""Regions of an exported graph (under autocast, no_grad): each computes its own sizes (ours)."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from gancompress.graph.form.literals import base_name, is_symbolic


def own_sizes(made: fx.GraphModule) -> None:
    """Let no region hand a computed size to another, or to what lies around it (in place).

    Export computes ``batch * 64`` once, and hands the result to every region that needs that
    number. Channels that only happen to be as many would be held equal by it. What is handed over
    afterwards are batch sizes themselves.
    """
    for node in list(made.graph.nodes):
        if not isinstance(node.target, torch._ops.HigherOrderOperator):
            continue
        at = next((i for i, a in enumerate(node.args) if region_of(made, a) is not None), None)
        if at is None:
            continue
        part = region_of(made, node.args[at])
        assert part is not None
        _take_out(made.graph, node, at, part.graph)
        _take_in(node, at, part.graph)
        own_sizes(part)


def region_of(module: fx.GraphModule, node: Any) -> fx.GraphModule | None:
    """Return the region that a node reads, if it does."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    found = module._modules.get(str(node.target))
    return found if isinstance(found, fx.GraphModule) else None


def _computed(node: Any) -> bool:
    """Whether a node computes a size out of others (a batch size alone is not computed)."""
    return (
        isinstance(node, fx.Node)
        and node.op == "call_function"
        and not base_name(node.target)
        and is_symbolic(node)
    )


def _inputs(graph: fx.Graph) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op == "placeholder"]


def _take_out(graph: fx.Graph, call: fx.Node, at: int, inner: fx.Graph) -> None:
    """Compute around a region the sizes that it puts out."""
    end = next(n for n in inner.nodes if n.op == "output")
    outputs: Any = end.args[0]
    if not isinstance(outputs, (tuple, list)):
        return
    given = dict(zip(_inputs(inner), call.args[at + 1 :], strict=True))
    kept = list(outputs)
    for read in [u for u in call.users if u.target is operator.getitem]:
        made = outputs[int(read.args[1])]  # type: ignore[arg-type]
        if not _computed(made) or not _reachable(made, given):
            continue
        with graph.inserting_before(read):
            read.replace_all_uses_with(_copied(graph, made, given, {}))
        kept[int(read.args[1])] = None  # type: ignore[arg-type]
        graph.erase_node(read)
    end.args = (tuple(kept),)


def _take_in(call: fx.Node, at: int, inner: fx.Graph) -> None:
    """Compute inside of a region the sizes that it is given."""
    args = list(call.args[at + 1 :])
    inputs = _inputs(inner)
    for node, value in zip(list(inputs), list(args), strict=True):
        if not _computed(value):
            continue
        assert isinstance(value, fx.Node)
        known = {a: n for a, n in zip(args, inputs, strict=True) if isinstance(a, fx.Node)}
        del known[value]
        for base in _bases(value):
            if base not in known:
                with inner.inserting_before(node):
                    known[base] = inner.placeholder(base.name)
                known[base].meta.update(base.meta)
                where = inputs.index(node)
                inputs.insert(where, known[base])
                args.insert(where, base)
        first = next(n for n in inner.nodes if n.op != "placeholder")
        with inner.inserting_before(first):
            node.replace_all_uses_with(_copied(inner, value, known, {}))
        where = inputs.index(node)
        del inputs[where], args[where]
        inner.erase_node(node)
    call.args = (*call.args[: at + 1], *args)


def _bases(node: fx.Node) -> list[fx.Node]:
    """Return the batch sizes out of which a size is computed."""
    if not _computed(node):
        return [node]
    return list(dict.fromkeys(b for n in node.all_input_nodes for b in _bases(n)))


def _reachable(node: fx.Node, given: dict[fx.Node, Any]) -> bool:
    """Whether a size inside of a region follows from what the region is given."""
    if node.op == "placeholder":
        return node in given
    return all(_reachable(n, given) for n in node.all_input_nodes)


def _copied(
    graph: fx.Graph, node: fx.Node, known: dict[fx.Node, Any], done: dict[fx.Node, fx.Node]
) -> Any:
    """Copy a computation into ``graph``, where ``known`` says what its bases are there."""
    if node in known:
        return known[node]
    if node not in done:
        for before in node.all_input_nodes:
            _copied(graph, before, known, done)
        done[node] = graph.node_copy(node, lambda n: known[n] if n in known else done[n])
    return done[node]
