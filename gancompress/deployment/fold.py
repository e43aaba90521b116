"""What a program computes of its weights alone is computed once: norms become plain weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
_CONVOLUTIONS = {
    aten.conv1d.default: 0,
    aten.conv2d.default: 0,
    aten.conv3d.default: 0,
    aten.conv2d.padding: 0,
    aten.conv1d.padding: 0,
    aten.linear.default: 0,
    aten.conv_transpose1d.default: 1,
    aten.conv_transpose2d.input: 1,
    aten.conv_transpose3d.input: 1,
}
"""Operator -> the dimension of its weight that holds output channels."""


def fold(module: fx.GraphModule) -> dict[str, int]:
    """Fold ``module``, a program with constants as attributes, in place; say how much (ours).

    Weights under spectral norm, weight norm or any other function of constants become constants.
    A batch norm in eval mode behind a convolution that nobody else reads goes into its weight.
    """
    constants = _fold_constants(module)
    norms = _fold_batch_norms(module)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    _drop_unused(module)
    return {"constants": constants, "batch_norms": norms}


def _value(module: fx.GraphModule, node: Any) -> Tensor | None:
    """Return the tensor of an attribute node."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, Tensor) else None


def _constant(module: fx.GraphModule, before: fx.Node, value: Tensor, stem: str) -> fx.Node:
    """Add a buffer and a node that reads it, ahead of ``before``."""
    index = 0
    while hasattr(module, f"{stem}_{index}"):
        index += 1
    module.register_buffer(f"{stem}_{index}", value.detach().clone())
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(f"{stem}_{index}")
    node.meta = {**before.meta, "val": before.meta.get("val")}
    return node


def _is_pure(node: fx.Node) -> bool:
    target: Any = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return False
    random = torch.Tag.nondeterministic_seeded in target.tags
    return not (random or target._schema.is_mutable)


def _fold_constants(module: fx.GraphModule) -> int:
    known: dict[fx.Node, Any] = {}
    written = {
        a for n in module.graph.nodes if not _is_pure(n) and n.op == "call_function"
        for a in n.all_input_nodes
    }  # fmt: skip
    for node in module.graph.nodes:
        if (value := _value(module, node)) is not None and node not in written:
            known[node] = value
        elif _is_pure(node) and node.all_input_nodes and node not in written:
            if any(a not in known for a in node.all_input_nodes):
                continue
            args = fx.map_arg(node.args, lambda n: known[n])
            kwargs = fx.map_arg(node.kwargs, lambda n: known[n])
            with torch.no_grad():
                known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    count = 0
    for node in list(module.graph.nodes):
        if node not in known or node.op == "get_attr" or not isinstance(known[node], Tensor):
            continue
        # Only where something that is no constant reads it: what lies between needs no place.
        if any(user not in known for user in node.users):
            new = _constant(module, node, known[node], "folded")
            node.replace_all_uses_with(new)
            count += 1
    return count


def _fold_batch_norms(module: fx.GraphModule) -> int:
    count = 0
    for node in list(module.graph.nodes):
        if node.target is not aten.batch_norm.default or node.args[5]:
            continue
        conv = node.args[0]
        if not isinstance(conv, fx.Node) or len(conv.users) != 1:
            continue
        if conv.target in _CONVOLUTIONS and _fold_one(module, conv, node):
            count += 1
    return count


def _fold_one(module: fx.GraphModule, conv: fx.Node, norm: fx.Node) -> bool:
    """Scale weight and bias of ``conv`` by the statistics of ``norm``, and drop the norm."""
    gain, shift, mean, var = (_value(module, a) for a in norm.args[1:5])
    weight = _value(module, conv.args[1])
    bias_node = conv.args[2] if len(conv.args) > 2 else conv.kwargs.get("bias")
    bias = _value(module, bias_node)
    if weight is None or mean is None or var is None or (bias_node is not None and bias is None):
        return False
    dim, groups = _CONVOLUTIONS[conv.target], _groups(conv)  # type: ignore[index]
    if dim == 1 and groups != 1:
        return False
    if conv.target is aten.linear.default and conv.meta["val"].dim() != 2:
        return False  # the norm's channels are not the layer's
    eps: Any = norm.args[7]
    with torch.no_grad():
        scale = (var.double() + eps).rsqrt() * (1.0 if gain is None else gain.double())
        shape = [1] * weight.dim()
        shape[dim] = -1
        offset = 0.0 if shift is None else shift.double()
        start = 0.0 if bias is None else bias.double()
        new_weight = (weight.double() * scale.view(shape)).to(weight.dtype)
        new_bias = ((start - mean.double()) * scale + offset).to(weight.dtype)
    weight_node = _constant(module, conv, new_weight, "folded_weight")
    bias_new = _constant(module, conv, new_bias, "folded_bias")
    conv.update_arg(1, weight_node)
    if len(conv.args) > 2:
        conv.update_arg(2, bias_new)
    else:
        conv.args = (*conv.args, bias_new)
        conv.kwargs = {k: v for k, v in conv.kwargs.items() if k != "bias"}
    norm.replace_all_uses_with(conv)
    return True


def _drop_unused(module: fx.GraphModule) -> None:
    """Delete the tensors that no node reads any more, so that no file carries them."""
    read = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}
    for path, sub in module.named_modules():
        for store in (sub._parameters, sub._buffers):
            for name in [n for n in store if f"{path}.{n}".lstrip(".") not in read]:
                del store[name]


def _groups(conv: fx.Node) -> Any:
    """Return the groups of a transposed convolution: the argument after its output padding."""
    return conv.args[6] if len(conv.args) > 6 else conv.kwargs.get("groups", 1)
