"""One graph for train() and eval(): what differs between the two exports is read from the flag."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from torch import fx

from gancompress.errors import GraphError
from gancompress.graph.form import pick
from gancompress.graph.literals import base_name
from gancompress.graph.where import line_in


def merge_modes(training: fx.GraphModule, evaluating: fx.GraphModule, paths: Set[str]) -> None:
    """Make the graph exported in train() serve eval() as well (ours).

    Literals that differ (the flag of batch norm, the rate of dropout) are chosen by the
    ``training`` of the module that used them, and batch norm counts its batches in train() only.

    Args:
        training: exported in train(); changed in place.
        evaluating: exported in eval().
        paths: module paths whose flag can be read.

    Raises:
        GraphError: the two graphs differ in another way; names the line.
    """
    _Merge(training, evaluating, paths).run()


class _Merge:
    def __init__(
        self, training: fx.GraphModule, evaluating: fx.GraphModule, paths: Set[str] | None
    ) -> None:
        self.one, self.two, self.paths = training, evaluating, paths
        self.twin: dict[fx.Node, fx.Node] = {}

    def run(self) -> None:
        rest = [n for n in self.two.graph.nodes if n.target != "_guards_fn"]
        for node in list(self.one.graph.nodes):
            if node.target == "_guards_fn":
                continue
            other = rest[0] if rest else None
            if other is not None and self._same_kind(node, other):
                pair = self._pair((node.args, dict(node.kwargs)), (other.args, dict(other.kwargs)))
                if pair is not None:
                    self.twin[node] = other
                    node.args, node.kwargs = (
                        self._chosen(node, pair[0]),
                        self._chosen(node, pair[1]),
                    )
                    rest = rest[1:]
                    continue
            if self.paths is not None and _counts_batches(node):
                node.args = (node.args[0], self._pick(node, 1, 0))
                continue
            raise _differs(node if other is None or node.op != "output" else other)
        if rest:
            raise _differs(rest[0])

    def _same_kind(self, a: fx.Node, b: fx.Node) -> bool:
        if a.op != b.op:
            return False
        if a.op == "get_attr":
            parts = [_part(m, n) for m, n in ((self.one, a), (self.two, b))]
            if all(p is not None for p in parts):
                _Merge(parts[0], parts[1], None).run()  # type: ignore[arg-type]
                return True
        return a.target == b.target

    def _pair(self, a: Any, b: Any) -> Any:
        """Return ``a`` with a `_Choice` where literals differ; None where more than that does."""
        if isinstance(a, fx.Node) or isinstance(b, fx.Node):
            return a if isinstance(a, fx.Node) and self.twin.get(a) is b else None
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            if len(a) != len(b):
                return None
            items = [self._pair(x, y) for x, y in zip(a, b, strict=True)]
            lost = any(
                i is None and not (x is None and y is None)
                for i, x, y in zip(items, a, b, strict=True)
            )
            return None if lost else tuple(items) if isinstance(a, tuple) else items
        if isinstance(a, dict) and isinstance(b, dict):
            if list(a) != list(b):
                return None
            values = self._pair(tuple(a.values()), tuple(b.values()))
            return None if values is None else dict(zip(a, values, strict=True))
        if isinstance(a, slice) and isinstance(b, slice):
            edges = self._pair((a.start, a.stop, a.step), (b.start, b.stop, b.step))
            return None if edges is None else slice(*edges)
        if type(a) is type(b) and a == b:
            return a
        if type(a) is type(b) and type(a) in (bool, int, float) and self.paths is not None:
            return _Choice(a, b)
        return None

    def _chosen(self, node: fx.Node, value: Any) -> Any:
        if isinstance(value, _Choice):
            return self._pick(node, value.training, value.evaluating)
        if isinstance(value, (list, tuple)):
            return type(value)(self._chosen(node, v) for v in value)
        if isinstance(value, dict):
            return {k: self._chosen(node, v) for k, v in value.items()}
        return value

    def _pick(self, node: fx.Node, training: Any, evaluating: Any) -> fx.Node:
        """Insert the choice between two literals by the flag of the module that runs ``node``."""
        stack = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
        path = re.sub(r"@\d+", "", stack[-1][0])
        flag = f"{path}.training" if path and path in (self.paths or ()) else "training"
        graph = self.one.graph
        with graph.inserting_before(node):
            read = graph.create_node("get_attr", flag)
            return graph.call_function(pick, (read, training, evaluating))


class _Choice:
    def __init__(self, training: Any, evaluating: Any) -> None:
        self.training, self.evaluating = training, evaluating


def _part(module: fx.GraphModule, node: fx.Node) -> fx.GraphModule | None:
    found = module._modules.get(str(node.target))
    return found if isinstance(found, fx.GraphModule) else None


def _counts_batches(node: fx.Node) -> bool:
    """Whether a node is batch norm's ``num_batches_tracked.add_(1)``."""
    counter = node.args[0] if node.args else None
    return (
        base_name(node.target) == "add_"
        and not node.users
        and isinstance(counter, fx.Node)
        and str(counter.target).endswith("num_batches_tracked")
        and bool(node.args[1] == 1)
    )


def _differs(node: fx.Node) -> GraphError:
    line = line_in(node.meta.get("stack_trace") or "")
    what = base_name(node.target) or node.name
    return GraphError(
        f"the forward does something else in train() than in eval()"
        f"{f' at {line}' if line else ''} ({what}). The graph form has one path; it can follow "
        'batch norm, dropout and spectral norm only. Leave form="graph" out for this generator'
    )
