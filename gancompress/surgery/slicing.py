"""Slices of tensors, parameters and whole modules: what a cut takes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.attribute_changes import set_attributes
from gancompress.graph.attributes import number_at
from gancompress.graph.plan import Plan
from gancompress.modules.copying import copy_with
from gancompress.surgery.cut_record import remember_cut
from gancompress.surgery.raw_tensors import raw_tensors

Strip = Callable[[nn.Module], None]
"""Takes the gates off a module."""


def slice_tensor(t: torch.Tensor, kept: Sequence[Sequence[int] | None]) -> torch.Tensor:
    """Slice a tensor; its memory format survives (index_select alone would lose it)."""
    out = t.detach()
    for d, indices in enumerate(kept):
        if indices is not None:
            out = out.index_select(d, torch.as_tensor(indices, device=t.device))
    for layout in (torch.channels_last, torch.channels_last_3d):
        rank = 4 if layout is torch.channels_last else 5
        if t.dim() == rank and t.is_contiguous(memory_format=layout) and not t.is_contiguous():
            return out.contiguous(memory_format=layout)
    return out


def check_plan(generator: nn.Module, plan: Plan, have: Mapping[str, torch.Tensor]) -> None:
    """Refuse a plan whose tensors or attributes are not those of ``generator`` (ours).

    Args:
        generator: the network to cut.
        plan: made for it, it says.
        have: the network's tensors by plain name.

    Raises:
        GraphError: a tensor is missing or too small for the plan, or an attribute is no number.
    """
    for name, row in plan.tensors.items():
        if name not in have:
            raise GraphError(
                f"the plan cuts {name!r}, which {type(generator).__name__} does not have: it was "
                "made for another network"
            )
        shape = tuple(have[name].shape)
        if len(row) != len(shape):
            raise GraphError(f"the plan cuts {len(row)} dimensions of {name!r}, which has {shape}")
        before = plan.sizes.get(name, shape)
        if any(k is not None and a != b for k, a, b in zip(row, before, shape, strict=False)):
            raise GraphError(
                f"the plan was made where {name!r} is {tuple(before)}; here it is {shape}. After "
                "shrink() a plan is relative to the network as it is then: whole_plan() starts "
                "from the original one"
            )
        for d, kept in enumerate(row):
            if kept is not None and max(kept) >= shape[d]:
                raise GraphError(
                    f"the plan keeps index {max(kept)} of {name!r} dim {d}, whose shape is "
                    f"{shape}: it was made for another network"
                )
    modules = dict(generator.named_modules(remove_duplicate=False))
    for path, name, value in plan.attributes:
        old = number_at(modules[path], name) if path in modules else None
        if type(old) is not type(value):
            where = f"{path}.{name}".removeprefix(".")
            raise GraphError(
                f"the plan sets attribute {where!r}, which {type(generator).__name__} does not "
                "have as a number: it was made for another network"
            )


def new_tensor(t: torch.Tensor, kept: Sequence[Sequence[int] | None]) -> torch.Tensor:
    """Return a sliced parameter or buffer of the same kind, with its gradient sliced too."""
    new = slice_tensor(t, kept)
    if not isinstance(t, nn.Parameter):
        return new
    made = nn.Parameter(new, requires_grad=t.requires_grad)
    vars(made).update(vars(t))  # learning-rate multipliers and the like that users attach
    if t.grad is not None:
        made.grad = slice_tensor(t.grad, kept)
    return made


def clone_tensor(t: torch.Tensor) -> torch.Tensor:
    """Return an independent tensor of the same kind."""
    new = t.detach().clone(memory_format=torch.preserve_format)
    if not isinstance(t, nn.Parameter):
        return new
    made = nn.Parameter(new, requires_grad=t.requires_grad)
    vars(made).update(vars(t))
    if t.grad is not None:
        made.grad = t.grad.detach().clone()
    return made


def sliced_copy(
    generator: nn.Module, plan: Plan, strip: Strip, *, share: bool = False
) -> tuple[nn.Module, dict[int, torch.Tensor]]:
    """Return a plain sliced copy of a (possibly gated) generator, and old id -> new tensor (ours).

    Args:
        generator: wrapped or plain.
        plan: of the plain network.
        strip: takes the gates off the copy.
        share: let the copy hold the very parameters that are not cut; only to be read.

    Raises:
        GraphError: the plan was made for another network.
    """
    raw = raw_tensors(generator)
    check_plan(generator, plan, raw)
    table = {id(t): plan.tensors[n] for n, t in raw.items() if n in plan.tensors}
    twins: dict[int, torch.Tensor] = {}

    def replace(t: torch.Tensor) -> torch.Tensor:
        if id(t) in table:
            twins[id(t)] = new_tensor(t, table[id(t)])
            return twins[id(t)]
        return t if share and isinstance(t, nn.Parameter) else clone_tensor(t)

    small = copy_with(generator, replace)
    strip(small)
    set_attributes(small, plan.attributes)
    remember_cut(small, plan, raw)
    return small, twins


def install(module: nn.Module, twins: Mapping[int, torch.Tensor]) -> None:
    """Put new tensors in the places of the old ones (ours)."""
    for sub in module.modules():
        for store in (sub._parameters, sub._buffers, vars(sub)):
            for key, value in list(store.items()):
                if isinstance(value, torch.Tensor) and id(value) in twins:
                    store[key] = twins[id(value)]  # type: ignore[assignment]
