"""Open gates must change nothing: one run with them, right after they were put on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gancompress.errors import GraphError
from gancompress.graph.groups import ChannelGraph
from gancompress.masks.mask import ChannelMask
from gancompress.modules.nested import map_tensors, tensors_of
from gancompress.modules.outside import names_used
from gancompress.modules.undisturbed import look
from gancompress.modules.user_line import failing_line
from gancompress.surgery.float64_run import distance
from gancompress.surgery.fresh_inputs import is_float
from gancompress.surgery.numeric_check import refuse_chance

ALIKE = 1e-3
"""Of the standard deviation: an open gate multiplies by one, so that next to nothing moves."""
_WALKS = {"parameters", "named_parameters", "buffers", "named_buffers", "state_dict",
          "functional_call"}  # fmt: skip
_CLASSES = {"type", "__class__"}


def outputs_of(generator: nn.Module, graph: ChannelGraph) -> list[Tensor]:
    """Return the floating-point outputs of the traced example, in eval mode, without a trace."""
    # Copies: some networks write into their inputs.
    args, kwargs = map_tensors(graph.example, lambda t: t.detach().clone())
    return [t.detach().clone() for t in tensors_of(look(generator, args, kwargs)) if is_float(t)]


def try_gates(
    generator: nn.Module,
    graph: ChannelGraph,
    masks: Mapping[str, ChannelMask],
    before: list[Tensor],
) -> None:
    """Run a generator whose gates are new, and refuse one that they change (ours).

    A gate is a submodule, its scores are parameters, and a gated layer has a class of its own: a
    forward may walk over its children or its parameters, or ask a layer for its very class.

    Args:
        generator: wrapped, its gates open.
        graph: of it.
        masks: its masks.
        before: what `outputs_of` returned before the gates were put on.

    Raises:
        GraphError: it no longer runs, or puts out something else; the message says why.
    """
    names = names_used(generator)
    walks = bool(names & _WALKS)
    try:
        with _decoys(masks if walks else {}):
            after = outputs_of(generator, graph)
    except Exception as error:
        told = f"{failing_line(error) or type(error).__name__}: {error}"
        raise GraphError(_cause(generator, names, told, by=graph)) from error
    spoilt = walks and _has_nan(after) and not _has_nan(before)
    if not spoilt and _open(masks) and _differ(before, after):
        refuse_chance(generator, graph.example)
        spoilt = True
    if spoilt:
        raise GraphError(_cause(generator, names, "the output is another one", by=graph))


@contextlib.contextmanager
def _decoys(masks: Mapping[str, ChannelMask]) -> Iterator[None]:
    """Put a parameter beside each score that no arithmetic for weights goes through unnoticed."""
    for mask in masks.values():
        odd = mask.scores.new_full((mask.size + 1,), float("nan"))
        mask.register_parameter("odd", nn.Parameter(odd, requires_grad=False))
    try:
        yield
    finally:
        for mask in masks.values():
            del mask.odd


def _open(masks: Mapping[str, ChannelMask]) -> bool:
    """Whether all gates are 1, as those of hard relaxations are at first."""
    with torch.no_grad():
        return all(bool((mask.gate(watched=False) == 1).all()) for mask in masks.values())


def _has_nan(outputs: list[Tensor]) -> bool:
    return any(bool(t.isnan().any()) for t in outputs)


def _differ(before: list[Tensor], after: list[Tensor]) -> bool:
    if _has_nan(before):
        return False  # nothing to compare with; the cut of it is refused for that
    return bool(before) and not distance(before, after) <= ALIKE


def _cause(generator: nn.Module, names: set[str], told: str, *, by: ChannelGraph) -> str:
    """Return the refusal: what the forward does that gates are in the way of."""
    kind = type(generator).__name__.removeprefix("Parametrized")
    owners = [
        path or kind for path, sub in generator.named_modules()
        if parametrize.is_parametrized(sub) and len(sub._modules) > 1
    ]  # fmt: skip
    form = "" if by.form == "graph" else ', or use form="graph" (--form graph)'
    if names & _WALKS:
        return (
            f"the forward of {kind} walks over its parameters (parameters(), state_dict(), "
            f"functional_call ...), and the scores of gates are among them ({told}). Let it name "
            f"the parameters that it means{form}"
        )
    if owners:
        return (
            f"the generator no longer runs with gates ({told}). A gate on a parameter of "
            f"{', '.join(owners)} is a submodule, and the forward may walk over the children: move "
            "the parameter into a module of its own, or exclude its channels"
        )
    if names & _CLASSES:
        return (
            f"with gates {kind} is another function ({told}). Its forward asks a layer for its "
            "very class (type(layer) is ...), and a gated layer has a class of its own: ask with "
            f"isinstance{form}"
        )
    return f"with gates {kind} is another function ({told}). Exclude layers to find the one{form}"
