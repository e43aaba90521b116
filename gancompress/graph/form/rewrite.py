"""Rewrite an exported graph so that it fits the generator's modules and any device."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from gancompress.errors import GraphError
from gancompress.graph.form import module as runtime
from gancompress.graph.form.export_mode import placeholders
from gancompress.graph.form.hold_counts import hold_counts
from gancompress.graph.form.literals import drop_assertions, plant_literals
from gancompress.graph.form.module import GraphForm
from gancompress.modules.user_line import line_in


def fit(made: fx.GraphModule, holder: nn.Module, computed: Collection[str] = ()) -> None:
    """Make a graph fit ``holder``: no assertions, parts under contexts, constants, devices.

    ``computed`` names the weights that modules of ``holder`` compute themselves.
    """
    graph = made.graph
    drop_assertions(graph)
    hold_counts(graph)
    for node in list(graph.nodes):
        node.meta["line"] = line_in(node.meta.get("stack_trace") or "")
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            _replace_context(node, made, holder)
    for node in [n for n in graph.nodes if n.op == "get_attr"]:
        if not node.users:
            graph.erase_node(node)
            continue
        if node.target not in computed:
            _adopt(str(node.target), made, holder)


_CONTEXTS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


def _replace_context(node: fx.Node, made: fx.GraphModule, holder: nn.Module) -> None:
    """Turn ``with torch.no_grad():`` or autocast into a call of a part of the graph."""
    name = getattr(node.target, "__name__", str(node.target))
    if name not in _CONTEXTS:
        raise GraphError(
            f"{node.meta['line'] or 'the forward'} uses {name}, which the graph form does not have"
        )
    count = _CONTEXTS[name]
    read: Any = node.args[count]
    part = made.get_submodule(str(read.target))
    assert isinstance(part, fx.GraphModule)
    fit(part, part)
    follow_device(part.graph)
    numbers = plant_literals(part.graph, free_names(part))
    child = _home(node, part, holder, numbers)
    graph = node.graph
    with graph.inserting_before(node):
        module = graph.create_node("get_attr", child)
        new = graph.call_function(
            runtime.call_inside,
            (name.removeprefix("wrap_with_"), node.args[:count], module, *node.args[count + 1 :]),
        )
    new.meta.update(node.meta)
    node.replace_all_uses_with(new)
    graph.erase_node(node)
    if not read.users:
        graph.erase_node(read)
        made.delete_submodule(str(read.target))  # it reads sizes that only its new form has


def _home(
    node: fx.Node, part: fx.GraphModule, holder: nn.Module, numbers: Mapping[str, int]
) -> str:
    """Hang a part below the module whose code it is, whose mode it shares; return its path."""
    stack = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
    path = re.sub(r"@\d+", "", str(stack[-1][0]))
    owner: Any = holder
    for step in path.split(".") if path else ():
        owner = None if owner is None else owner._modules.get(step)
    if owner is None or isinstance(owner, torch.jit.ScriptModule):
        owner, path = holder, ""
    form = GraphForm(part, part.graph, numbers, "Part")
    form.train(owner.training)
    name = free_names(owner)("part")
    owner.add_module(name, form)
    return f"{path}.{name}" if path else name


def _adopt(name: str, made: fx.GraphModule, holder: nn.Module) -> None:
    """Give ``holder`` the constant ``name`` of the exported module, where it lacks it."""
    *path, last = name.split(".")
    owner: Any = holder
    for part in path:
        owner = None if owner is None else owner._modules.get(part)
    # Not hasattr: reading a computed weight would move its power iteration.
    stores = () if owner is None else (owner._parameters, owner._buffers, owner._modules)
    if owner is not None and any(last in s for s in (*stores, vars(owner), vars(type(owner)))):
        return
    source = operator.attrgetter(name)(made)
    if not isinstance(source, torch.Tensor) or owner is None:
        raise GraphError(f"the graph form cannot hold {name!r} of type {type(source).__name__}")
    owner.register_buffer(last, source.detach().clone(), persistent=False)


def follow_device(graph: fx.Graph) -> None:
    """Let new tensors lie where the inputs (or the parameters) do."""
    known = [n for n in graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    inputs = [n for n in known if n.op == "placeholder"]
    if not inputs:
        return
    first, home = inputs[0], inputs[0].meta["val"].device
    for node in list(graph.nodes):
        where = {k: v for k, v in node.kwargs.items() if v == home}
        places = [i for i, v in enumerate(node.args) if isinstance(v, torch.device) and v == home]
        if where or places:
            with graph.inserting_before(node):
                follow = graph.call_function(runtime.device_of, (first,))
            node.kwargs = {**node.kwargs, **dict.fromkeys(where, follow)}
            node.args = tuple(follow if i in places else a for i, a in enumerate(node.args))


def compute_weights(graph: fx.Graph, computed: Mapping[str, bool]) -> None:
    """Read a computed weight once for each use: training moves its power iteration each time."""
    for node in [n for n in graph.nodes if n.op == "get_attr" and n.target in computed]:
        path, _, name = str(node.target).rpartition(".")
        for user in list(node.users):
            with graph.inserting_before(user):
                if computed[str(node.target)]:
                    module = graph.create_node("get_attr", path)
                    read = graph.call_function(runtime.refreshed, (module, name))
                else:
                    read = graph.create_node("get_attr", node.target)
            read.meta["line"] = user.meta.get("line", "")
            user.replace_input_with(node, read)
        graph.erase_node(node)


def check_inputs(graph: fx.Graph, args: Any, kwargs: Any, rows: int) -> None:
    """Let the forward refuse inputs that the graph was not made for."""
    inputs = placeholders(graph)
    with graph.inserting_after(inputs[-1] if inputs else graph._root):
        leaves = pytree.tree_leaves((args, kwargs))
        for node, leaf in reversed(list(zip(inputs, leaves, strict=True))):
            if isinstance(leaf, torch.Tensor):
                shape = tuple(leaf.shape)
                if shape and shape[0] == rows:
                    shape = (None, *shape[1:])
                values = (node, node.name, shape, leaf.is_floating_point())
                graph.call_function(runtime.check_tensor, values)
            else:
                graph.call_function(runtime.check_constant, (node, node.name, leaf))


def free_names(holder: nn.Module) -> Callable[[str], str]:
    """Return a function that makes names no attribute of ``holder`` has."""
    taken: set[str] = set()

    def free(name: str) -> str:
        while name in taken or hasattr(holder, name):
            name += "_"
        taken.add(name)
        return name

    return free
