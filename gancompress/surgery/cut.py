"""Cut: slice every parameter, buffer, optimiser state and copy in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.attribute_changes import set_attributes
from gancompress.graph.attributes import number_at
from gancompress.graph.form.to_graph import to_graph
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan, slice_tensor
from gancompress.modules.copying import copy_with, require_module
from gancompress.surgery.quiet import undisturbed
from gancompress.surgery.raw_tensors import gates_off, raw_tensors
from gancompress.surgery.transaction import all_or_nothing


def cut(
    generator: nn.Module,
    plan: Plan,
    *,
    graph: ChannelGraph | None = None,
    optimizers: Sequence[torch.optim.Optimizer] = (),
    copies: Sequence[nn.Module] = (),
) -> nn.Module:
    """Return a smaller copy of ``generator`` without the channels that ``plan`` drops (ours).

    The copy is plain: of a wrapped generator it has the weights and none of the masks. Memory
    format, dtype, device, ``requires_grad``, names and hooks are kept. The generator itself
    stays as it is; ``optimizers`` are re-bound to the new parameters with their state sliced, and
    ``copies`` (EMA) are cut in place. Nothing is changed if any step fails.

    Args:
        generator: the module that was traced, plain or wrapped.
        plan: from `random_plan`, `Masked.plan` or `Plan.of`.
        graph: the graph the plan was made on; its example is run through the result. From
            ``trace(..., form="graph")`` the result is a graph form.
        optimizers: optimisers that hold parameters of ``generator``.
        copies: modules with the same parameter names.

    Raises:
        GraphError: the plan was made for another network, an optimiser holds state that cannot be
            sliced, or the cut network does not run.
    """
    require_module(generator)
    if not isinstance(plan, Plan):
        raise GraphError(
            f"expected a Plan, not a {type(plan).__name__}: Plan.of(graph, keep) makes one"
        )
    if graph is not None and graph.form == "graph":
        generator = to_graph(generator, *graph.example, check=False, share=True)
    raw = raw_tensors(generator)
    check_plan(generator, plan, raw)
    table = {id(t): plan.tensors[n] for n, t in raw.items() if n in plan.tensors}
    twins: dict[int, torch.Tensor] = {}

    def replace(t: torch.Tensor) -> torch.Tensor:
        new = new_tensor(t, table[id(t)]) if id(t) in table else clone_tensor(t)
        twins[id(t)] = new
        return new

    small = copy_with(generator, replace)
    gates_off(small)
    set_attributes(small, plan.attributes)
    if graph is not None:
        _run(small, graph)
    left = {id(p) for p in small.parameters()}
    gone = {
        i for i, t in twins.items() if isinstance(t, nn.Parameter) and id(t) not in left
    }  # mask scores
    moves = [plan_optimizer(o, table, twins, gone) for o in optimizers]
    edits = [plan_copy(c, plan) for c in copies]
    with all_or_nothing(copies, optimizers):
        for commit in (*moves, *edits):
            commit()
    return small


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


def plan_optimizer(
    optimizer: torch.optim.Optimizer,
    table: Mapping[int, Sequence[Sequence[int] | None]],
    twins: Mapping[int, torch.Tensor],
    gone: Container[int] = (),
) -> Callable[[], None]:
    """Prepare an optimiser's move to sliced parameters; the returned call commits it.

    Args:
        optimizer: is left alone until then.
        table: id of a parameter to the indices it keeps.
        twins: id of a parameter to the new one.
        gone: ids of parameters that have no place in the new network.

    Raises:
        GraphError: a state tensor is neither a scalar nor of its parameter's shape.
    """
    groups: list[list[Any]] = []
    state: dict[Any, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        row = []
        for p in group["params"]:
            if id(p) in gone:
                continue
            new = twins.get(id(p), p)
            row.append(new)
            if p not in optimizer.state:
                continue
            kept = table.get(id(p))
            state[new] = {
                key: _slice_state(key, value, p, kept, optimizer)
                for key, value in optimizer.state[p].items()
            }
        groups.append(row)

    def commit() -> None:
        for group, row in zip(optimizer.param_groups, groups, strict=True):
            group["params"] = row
        optimizer.state.clear()
        optimizer.state.update(state)

    return commit


def _slice_state(
    key: str,
    value: Any,
    p: torch.Tensor,
    kept: Sequence[Sequence[int] | None] | None,
    optimizer: torch.optim.Optimizer,
) -> Any:
    if kept is None:
        return value
    if isinstance(value, torch.Tensor):
        if value.shape == p.shape:
            return slice_tensor(value, kept)
        if value.numel() == 1:  # a step count
            return value
        what = f"shape {tuple(value.shape)}"
    elif isinstance(value, (list, tuple, dict)):
        what = f"type {type(value).__name__}"
    else:
        return value
    raise GraphError(
        f"{type(optimizer).__name__} keeps {key!r} of {what} for a parameter of shape "
        f"{tuple(p.shape)}: its state cannot be sliced. Use an optimiser with per-element state "
        "(Adam, SGD, RMSprop, ...) or make a new one after the cut."
    )


def plan_copy(module: nn.Module, plan: Plan) -> Callable[[], None]:
    """Prepare cutting a module in place; the returned call commits it (ours).

    Raises:
        GraphError: the module does not have the plan's tensors.
    """
    raw = raw_tensors(module)
    check_plan(module, plan, raw)
    table = {id(t): plan.tensors[n] for n, t in raw.items() if n in plan.tensors}
    new: dict[int, torch.Tensor] = {}
    places = []
    for sub in module.modules():
        for store in (sub._parameters, sub._buffers, vars(sub)):
            for key, value in store.items():
                if isinstance(value, torch.Tensor) and id(value) in table:
                    places.append((store, key, value))
    for _, _, value in places:
        if id(value) not in new:
            new[id(value)] = new_tensor(value, table[id(value)])

    def commit() -> None:
        for store, key, value in places:
            store[key] = new[id(value)]
        gates_off(module)
        set_attributes(module, plan.attributes)

    return commit


def _run(small: nn.Module, graph: ChannelGraph) -> None:
    """Run the cut network once on the traced example: never return a module that was not run."""
    args, kwargs = graph.example
    try:
        with undisturbed(small):
            small(*args, **kwargs)
    except Exception as error:
        raise GraphError(
            f"the cut {type(small).__name__} does not run ({type(error).__name__}: {error}). The "
            "generator is unchanged. `gancompress inspect` shows which layers need fixed sizes."
        ) from error
