"""One graph for train() and eval(): what differs between the two exports is read from the flag."""

from __future__ import annotations

import operator
import re
from collections.abc import Set
from typing import Any

import torch
from torch import fx

from gancompress.errors import GraphError
from gancompress.graph.form.literals import base_name, is_symbolic, sizes_of
from gancompress.graph.form.module import pick, when
from gancompress.modules.user_line import line_in

_STATEFUL = {"batch_norm", "instance_norm", "native_batch_norm", "dropout"}

# What a detour of train() may be made of (drop path, noise): it follows any number of channels.
_DETOUR = {
    "new_empty", "new_full", "new_ones", "empty", "full", "ones", "rand", "randn", "empty_like",
    "rand_like", "randn_like", "ones_like", "bernoulli", "bernoulli_", "uniform_", "normal_",
    "dropout", "feature_dropout", "add", "add_", "sub", "rsub", "mul", "mul_", "div", "div_",
    "floor", "floor_", "lt", "le", "gt", "ge", "where", "masked_fill", "to", "_to_copy", "clone",
    "contiguous",
}  # fmt: skip


def merge_modes(training: fx.GraphModule, evaluating: fx.GraphModule, paths: Set[str]) -> None:
    """Make the graph exported in train() serve eval() as well (ours).

    Literals that differ (the flag of batch norm, the rate of dropout) are chosen by the
    ``training`` of the module that used them. Writes in place that only train() does (batch norm's
    count of batches, the vectors of a hand-written spectral norm) are done in train() only, and so
    is a detour without parameters (drop path, noise), which eval() goes around.

    Args:
        training: exported in train(); changed in place.
        evaluating: exported in eval().
        paths: module paths whose flag can be read.

    Raises:
        GraphError: the two graphs differ in another way; names the line.
    """
    for module in (training, evaluating):
        _read_what_was_written(module)
    merge = _Merge(training, evaluating, paths)
    merge.compare()
    merge.apply()


class _Merge:
    """Walks both graphs in step; changes nothing before `apply`."""

    def __init__(self, one: fx.GraphModule, two: fx.GraphModule, paths: Set[str]) -> None:
        self.one, self.two, self.paths = one, two, paths
        self.twin: dict[fx.Node, fx.Node] = {}
        self.new: dict[fx.Node, tuple[Any, Any]] = {}
        self.extra: dict[fx.Node, None] = {}  # only train() has these
        self.detours: dict[fx.Node, None] = {}  # those of them that eval() goes around
        self.parts: dict[fx.Node, _Merge] = {}

    def compare(self) -> None:
        """Pair the nodes of both graphs.

        Raises:
            GraphError: what is left over in train() is more than writes in place.
        """
        rest = [n for n in self.two.graph.nodes if n.target != "_guards_fn"]
        for node in self.one.graph.nodes:
            if node.target == "_guards_fn":
                continue
            if rest and self._same_kind(node, rest[0]):
                pair = self._pair((node.args, dict(node.kwargs)), (rest[0].args, rest[0].kwargs))
                if pair is not None:
                    self.twin[node], self.new[node] = rest[0], pair
                    rest = rest[1:]
                    continue
            if node.op not in ("call_function", "get_attr"):
                raise _differs(rest[0] if rest else node)
            self.extra[node] = None
        if rest:
            raise _differs(rest[0])
        for node in self.extra:
            self._vet(node)

    def _vet(self, node: fx.Node) -> None:
        """Refuse a node of train() alone that eval() could feel, or that moves random states."""
        if node in self.detours:
            strays = [u for u in node.users if u in self.extra and u not in self.detours]
            if strays or sizes_of(node):
                raise _differs(node)
            return
        seeded = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        stateful = seeded or base_name(node.target) in _STATEFUL
        # eval() never runs what is only for train(), so its sizes would not be found.
        unseen = self._conditional(node) and sizes_of(node)
        if stateful or unseen or any(user not in self.extra for user in node.users):
            raise _differs(node)
        part = _part(self.one, node)
        for inner in part.graph.nodes if part is not None else ():
            if torch.Tag.nondeterministic_seeded in getattr(inner.target, "tags", ()) or (
                base_name(inner.target) in _STATEFUL or (_writes(inner) and sizes_of(inner))
            ):
                raise _differs(inner)

    def _conditional(self, node: fx.Node) -> bool:
        """Whether an extra node writes, or reads the outcome of such a write."""
        return node in self.extra and (
            _writes(node) or any(self._conditional(n) for n in node.all_input_nodes)
        )

    def apply(self) -> None:
        """Write the choices into the graph of train()."""
        for node, (args, kwargs) in self.new.items():
            node.args, node.kwargs = self._chosen(node, args), self._chosen(node, kwargs)
        chosen = [n for n in self.extra if self._conditional(n) or n in self.detours]
        for node in chosen:
            self._only_in_training(node)
        for node in self.extra:
            part = _part(self.one, node)
            if part is not None:
                inside = _Merge(part, part, set())
                for inner in [n for n in part.graph.nodes if _writes(n)]:
                    inside._only_in_training(inner)
        for part in self.parts.values():
            part.apply()

    def _same_kind(self, a: fx.Node, b: fx.Node) -> bool:
        if a.op != b.op:
            return False
        parts = _part(self.one, a), _part(self.two, b)
        if parts[0] is not None and parts[1] is not None:
            inside = _Merge(parts[0], parts[1], set())
            try:
                inside.compare()
            except GraphError:
                return False
            self.parts[a] = inside
            return True
        return a.op == "placeholder" or a.target == b.target

    def _pair(self, a: Any, b: Any) -> Any:
        """Return ``a`` with a `_Choice` where literals differ; None where more than that does."""
        if isinstance(a, fx.Node) and isinstance(b, fx.Node):
            if self.twin.get(a) is b:
                return a
            source = next((n for n, twin in self.twin.items() if twin is b), None)
            return _Choice(a, source) if source is not None and self._detour(a, source) else None
        if isinstance(a, fx.Node) or isinstance(b, fx.Node):
            return None
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
        if type(a) is type(b) and a == b:
            return a
        if type(a) is type(b) and type(a) in (bool, int, float):
            return _Choice(a, b)
        return None

    def _detour(self, end: fx.Node, source: fx.Node) -> bool:
        """Whether train() goes from ``source`` to ``end`` by operators that hold no channels."""
        found: dict[fx.Node, None] = {}
        todo = [end]
        while todo:
            node = todo.pop()
            if node is source or node in found or is_symbolic(node):
                continue
            if node not in self.extra or base_name(node.target) not in _DETOUR:
                return False
            # A draw is made by one operator and filled by another, which hands on the first.
            writers = [u for u in node.users if _writes(u) and u.args and u.args[0] is node]
            found[node] = None
            todo += [*node.all_input_nodes, *writers]
        self.detours.update(found)
        return end in found

    def _chosen(self, node: fx.Node, value: Any) -> Any:
        if isinstance(value, _Choice):
            read = self._flag(value.training if isinstance(value.training, fx.Node) else node)
            with self.one.graph.inserting_before(node):
                return self.one.graph.call_function(pick, (read, value.training, value.evaluating))
        if isinstance(value, (list, tuple)):
            return type(value)(self._chosen(node, v) for v in value)
        if isinstance(value, dict):
            return {k: self._chosen(node, v) for k, v in value.items()}
        return value

    def _only_in_training(self, node: fx.Node) -> None:
        read = self._flag(node)
        target: Any = node.target
        node.args = (read, target, *node.args)
        node.target = when

    def _flag(self, node: fx.Node) -> fx.Node:
        """Read the flag of the module that runs ``node``."""
        stack = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
        path = re.sub(r"@\d+", "", stack[-1][0])
        flag = f"{path}.training" if path and path in self.paths else "training"
        with self.one.graph.inserting_before(node):
            return self.one.graph.create_node("get_attr", flag)


class _Choice:
    def __init__(self, training: Any, evaluating: Any) -> None:
        self.training, self.evaluating = training, evaluating


def _read_what_was_written(module: fx.GraphModule) -> None:
    """After a write in place, use the tensor that was written to, not the result of the write.

    They are the same tensor; but the result does not exist when the write is for train() only.
    """
    graph = module.graph
    for node in list(graph.nodes):
        if _writes(node) and node.args and isinstance(node.args[0], fx.Node):
            returned = node.target._schema.returns  # type: ignore[union-attr]
            if len(returned) == 1 and returned[0].alias_info is not None:
                node.replace_all_uses_with(node.args[0])
        part = _part(module, node)
        if part is not None:
            _read_what_was_written(part)
            for user in list(node.users):
                _use_inputs_directly(graph, user, node, part)


def _use_inputs_directly(
    graph: fx.Graph, call: fx.Node, read: fx.Node, part: fx.GraphModule
) -> None:
    """Take the inputs that a part only hands through out of its outputs."""
    inputs = [n for n in part.graph.nodes if n.op == "placeholder"]
    end = next(n for n in part.graph.nodes if n.op == "output")
    values: Any = call.args[call.args.index(read) + 1 :]
    outputs: Any = end.args[0]
    if not isinstance(outputs, (tuple, list)):
        return
    kept = [i for i, out in enumerate(outputs) if out not in inputs]
    for user in list(call.users):
        if user.target is not operator.getitem:
            return
    for user in list(call.users):
        at = int(user.args[1])  # type: ignore[arg-type]
        if at in kept:
            user.args = (call, kept.index(at))
        else:
            user.replace_all_uses_with(values[inputs.index(outputs[at])])
            graph.erase_node(user)
    end.args = (tuple(outputs[i] for i in kept),)


def _part(module: fx.GraphModule, node: fx.Node) -> fx.GraphModule | None:
    """Return the part of the graph (under no_grad, autocast) that a node reads, if it does."""
    found = module._modules.get(str(node.target)) if node.op == "get_attr" else None
    return found if isinstance(found, fx.GraphModule) else None


def _writes(node: fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _differs(node: fx.Node) -> GraphError:
    line = line_in(node.meta.get("stack_trace") or "")
    what = base_name(node.target) or node.name
    return GraphError(
        f"the forward does something else in train() than in eval()"
        f"{f' at {line}' if line else ''} ({what}). The graph form has one path: it can follow "
        "norms, dropout, drop path, noise and writes into buffers, not this. Leave "
        'form="graph" out for this generator'
    )
