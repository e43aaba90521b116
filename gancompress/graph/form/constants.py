"""Constants of an exported graph that are parameters, reached by another way than their name."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn


def read_live(made: fx.GraphModule, exported: nn.Module) -> None:
    """Read parameters and buffers by name where export took their values for constants (ours).

    It does so where the forward reads them through a list, a dict or an object beside the modules,
    or reads a view of one that was made before: what trains would then never reach the output.

    Args:
        made: the exported graph, changed in place.
        exported: the module that was exported, whose tensors the constants still are.
    """
    named = [*exported.named_parameters(), *exported.named_buffers()]
    known = {name for name, _ in named}
    whole = {_memory(t): name for name, t in reversed(named) if t.numel()}
    stores = {p.untyped_storage()._cdata: (n, p) for n, p in exported.named_parameters()}
    for node in [n for n in made.graph.nodes if n.op == "get_attr" and n.target not in known]:
        value = operator.attrgetter(str(node.target))(made)
        if not isinstance(value, torch.Tensor) or not value.numel():
            continue
        if name := whole.get(_memory(value)):
            node.target = name
        elif found := stores.get(value.untyped_storage()._cdata):
            _read_view(made.graph, node, value, *found)


def _memory(t: torch.Tensor) -> tuple[object, ...]:
    return t.data_ptr(), tuple(t.shape), t.stride(), t.dtype, t.device


def _read_view(
    graph: fx.Graph, node: fx.Node, value: torch.Tensor, name: str, parameter: torch.Tensor
) -> None:
    """Compute a view of a parameter anew from it, dimension by dimension where that is plain."""
    node.target = name
    rest = node.next
    with graph.inserting_before(rest):
        if value.stride() == parameter.t().stride() and value.dim() == 2:
            view = graph.call_function(torch.ops.aten.t.default, (node,))
        elif value.is_contiguous() and parameter.is_contiguous() and _all(value, parameter):
            view = graph.call_function(torch.ops.aten.view.default, (node, list(value.shape)))
        else:
            where = (list(value.shape), list(value.stride()), value.storage_offset())
            view = graph.call_function(torch.ops.aten.as_strided.default, (node, *where))
    view.meta.update(node.meta)
    view.meta["val"] = node.meta.get("val")
    node.replace_all_uses_with(view, delete_user_cb=lambda user: user is not view)


def _all(value: torch.Tensor, parameter: torch.Tensor) -> bool:
    return value.numel() == parameter.numel() and value.data_ptr() == parameter.data_ptr()
