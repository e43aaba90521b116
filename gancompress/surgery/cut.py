"""Cut: slice every parameter, buffer, optimiser state and copy in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from gancompress.errors import GraphError
from gancompress.graph.attribute_changes import set_attributes
from gancompress.graph.form.to_graph import to_graph
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.modules.copying import copy_with, require_module
from gancompress.modules.nested import map_tensors
from gancompress.modules.undisturbed import undisturbed
from gancompress.surgery.cut_record import remember_cut
from gancompress.surgery.optimizers import plan_optimizer
from gancompress.surgery.raw_tensors import gates_off, raw_tensors
from gancompress.surgery.slicing import check_plan, clone_tensor, new_tensor
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
    remember_cut(small, plan, raw)
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
        remember_cut(module, plan, raw)

    return commit


def _run(small: nn.Module, graph: ChannelGraph) -> None:
    """Run the cut network once on the traced example: never return a module that was not run."""
    # Copies: some networks write into their inputs.
    args, kwargs = map_tensors(graph.example, lambda t: t.detach().clone())
    try:
        with undisturbed(small):
            small(*args, **kwargs)
    except Exception as error:
        raise GraphError(
            f"the cut {type(small).__name__} does not run ({type(error).__name__}: {error}). The "
            "generator is unchanged. `gancompress inspect` shows which layers need fixed sizes."
        ) from error
