"""The two ways to cut a wrapped generator: in place, its gates put back; as a copy without any."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from gancompress.errors import GraphError, TargetError
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.plan import Plan
from gancompress.masks.attach import attach, detach, find_masks
from gancompress.masks.carry import carry_masks, carry_scores
from gancompress.masks.mask import ChannelMask
from gancompress.surgery.followers import average_in
from gancompress.surgery.live_cut import carried_channels, operate
from gancompress.surgery.slicing import sliced_copy
from gancompress.surgery.transaction import all_or_nothing
from gancompress.surgery.verify import CutCheck, Verification, verify
from gancompress.wrapping.parallel import outdate_shells, refuse_sharded


@dataclass(frozen=True)
class LiveCut:
    """What `cut_in_place` leaves: the graph and masks from now on, and how far the output moved."""

    graph: ChannelGraph
    masks: dict[str, ChannelMask]
    errors: list[float]


def cut_in_place(
    generator: nn.Module,
    plan: Plan,
    *,
    graph: ChannelGraph,
    masks: Mapping[str, ChannelMask],
    site: str,
    optimizers: Sequence[torch.optim.Optimizer],
    copies: Sequence[nn.Module],
    check: CutCheck | None = None,
) -> LiveCut:
    """Cut a wrapped generator, its copies and optimisers together, or none of them (ours).

    Args:
        generator: wrapped; it stays so, with narrower masks.
        plan: relative to the network as it is now.
        graph: of the generator as it is now.
        masks: of the generator, by group name.
        site: where gates sit, as for `wrap`.
        optimizers: those that hold the generator's parameters or the mask scores.
        copies: deep copies of the wrapped generator, or modules around one.
        check: made before the cut; compares the output.

    Raises:
        GraphError: the cut network does not run, or a copy is none of this generator.
        TargetError: its output is not that of the masked network.
    """
    refuse_sharded(generator)
    copies = [average_in(c, generator) for c in copies]
    old_masks = [dict(masks), *(find_masks(c) for c in copies)]
    if any(set(m) != set(masks) for m in old_masks):
        raise GraphError("copies must be deep copies of the wrapped generator, with its masks")
    with all_or_nothing((generator, *copies), optimizers):
        new_graph = operate(
            generator, plan, graph=graph, strip=detach, optimizers=optimizers, copies=copies
        )
        carried = carried_channels(graph, new_graph, plan)
        new_masks = [carry_masks(old, carried, masks) for old in old_masks]
        for optimizer in optimizers:
            carry_scores(optimizer, masks, new_masks[0], carried)
        for module, new in zip((generator, *copies), new_masks, strict=True):
            attach(module, new_graph, new, site)
        errors = [] if check is None else [check.error(plan)]
    outdate_shells(generator, "the cut of the generator in it")
    return LiveCut(new_graph, new_masks[0], errors)


def plain_copy(generator: nn.Module, plan: Plan) -> nn.Module:
    """Return a smaller copy of a wrapped generator, without gates and without a shared tensor."""
    return sliced_copy(generator, plan, detach)[0]


def compared(
    generator: nn.Module, small: nn.Module, plan: Plan, graph: ChannelGraph, *, follows: bool
) -> Verification:
    """Return what `verify` says of a cut copy, on the traced example (ours).

    Args:
        generator: its gates settled on ``plan``.
        small: the copy.
        plan: what it keeps.
        graph: of the generator.
        follows: inputs move the output of this generator, with these weights or others. Where they
            do not, any cut would pass: that is warned of, and no fault of the cut.
    """
    args, kwargs = graph.example
    training = graph.trains != "same"
    found = verify(generator, small, args, kwargs, plan=plan, training=training)
    if found.untested and not follows:
        warnings.warn(f"the cut could not be tested: {found}", stacklevel=3)
        return replace(found, passed=True)
    return found


class Settled:
    """The states of masks before they were settled, to go back to where a cut is refused."""

    def __init__(self, masks: Mapping[str, ChannelMask]) -> None:
        self._before = [(m, copy.deepcopy(m.state_dict())) for m in masks.values()]

    def undo(self, found: Verification) -> TargetError:
        """Put the masks back, and return the refusal."""
        for mask, state in self._before:
            mask.load_state_dict(state)
        return TargetError(
            f"the cut network is refused. Masked against cut: {found}. The masked generator is "
            "unchanged. Find the layer at fault with exclude=(...)."
        )
