"""The handle on a wrapped generator: penalty, killing, live cut, prune, unwrap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, GraphError
from gancompress.graph.groups import ChannelGraph, Cost
from gancompress.graph.plan import Plan
from gancompress.masks.attach import detach
from gancompress.masks.budget import Budget
from gancompress.masks.carry import cuttable, decided
from gancompress.masks.importance import checked, read_masks
from gancompress.masks.lent_weights import lend
from gancompress.masks.mask import ChannelMask, kill_together
from gancompress.masks.parcel import Fetched, Parcel
from gancompress.masks.schedule import build_schedule
from gancompress.masks.sensitivity import mean_over_ranks, observe
from gancompress.modules.nested import map_tensors
from gancompress.modules.ranks import check_alike
from gancompress.surgery.cut_record import count_cuts
from gancompress.surgery.followers import warn_of_forgotten
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.surgery.verify import CutCheck, Verification
from gancompress.target import Given
from gancompress.wrapping.attaching import alive_of, set_up
from gancompress.wrapping.cutting import Settled, compared, cut_in_place, plain_copy
from gancompress.wrapping.parallel import outdate_shells, refuse_sharded
from gancompress.wrapping.state import State, budget_from, budget_to
from gancompress.wrapping.targets import budget_for


@dataclass(frozen=True)
class Event:
    """Something that `Masked.advance` did: channels killed, and the cost they leave."""

    kind: str
    progress: float
    channels: int
    cost: Cost


class Masked:
    """Handle on a wrapped generator; made by `wrap`. The generator stays the same object.

    Attributes:
        generator: the module that was wrapped.
        graph: its channel groups (after the first forward call when no example was given).
        history: the cut done so far by `shrink`, on the original network; None before the first.
        verification: of the last `prune`.
        cut_errors: of each `shrink`: how far the output moved, in float64, as in `verify`.
        cuts_before: how many cuts the generator remembered when it was wrapped.
    """

    def __init__(self, generator: nn.Module, options: dict[str, Any]) -> None:
        self.generator, self._options = generator, options
        self.history: Plan | None = None
        self.verification: Verification | None = None
        self.cut_errors: list[float] = []
        self.cuts_before = count_cuts(generator)
        self.progress = 0.0
        self._graph: ChannelGraph | None = None
        self._original: Cost | None = None
        self._budget: Budget | None = None
        self._masks: dict[str, ChannelMask] = {}
        self._schedule = build_schedule(options["schedule"], *options["window"])
        self._first_call: Any = None
        self._follows = True

    # -- set-up ----------------------------------------------------------------------------------
    def wait_for_example(self) -> None:
        """Take the example from the generator's first forward call."""
        hook = self.generator.register_forward_pre_hook(self._on_first_call, with_kwargs=True)
        self._first_call = hook

    def _on_first_call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._first_call.remove()
        self._first_call = None
        try:
            # Under inference mode (a preview, say) the scores would be frozen.
            with torch.inference_mode(False), torch.enable_grad():
                args, kwargs = map_tensors((args, kwargs), lambda t: t.detach().clone())
                self.begin(args, kwargs)
        except Exception:
            self.wait_for_example()
            raise

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Trace on these inputs, choose the groups and attach their masks.

        Raises:
            ConfigError: a pattern matches nothing.
            GraphError: the forward fails, or nothing can be pruned.
            TargetError: the target is out of reach.
        """
        refuse_sharded(self.generator)
        start = set_up(self.generator, args, kwargs, self._options)
        outdate_shells(self.generator, "the masks in it")
        self._graph, self._masks = start.graph, start.masks
        self._original, self._budget = start.original, start.budget
        self._follows = start.follows

    @property
    def graph(self) -> ChannelGraph:
        """Channel groups of the generator as it is now."""
        if self._graph is None and self._first_call is None:
            raise GraphError("this handle is spent: its generator was unwrapped; wrap() it again")
        if self._graph is None:
            raise GraphError("no example yet: call the generator, or wrap(generator, example=...)")
        return self._graph

    @property
    def masks(self) -> dict[str, ChannelMask]:
        """Masks by group name."""
        _ = self.graph
        return self._masks

    @property
    def original(self) -> Cost:
        """Cost of the generator when it was wrapped."""
        _ = self.graph
        assert self._original is not None
        return self._original

    @property
    def budget(self) -> Budget | None:
        """Targets bound to the original cost; None without a target."""
        return self._budget

    # -- training --------------------------------------------------------------------------------
    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the mask scores (they are among ``generator.parameters()`` as well)."""
        for mask in self.masks.values():
            yield mask.scores

    def penalty(self) -> Tensor:
        """Return the sparsity penalty, a scalar (0 at rest); its weight is the caller's."""
        if not any(mask.decides for mask in self.masks.values()):
            return next(self.parameters()).new_zeros(())
        kind = self._budget.kind if self._budget is not None else "params"
        price = self.graph.marginal(self.widths(), kind)
        batch = self.graph.batch if kind == "macs" else 1  # marginal MACs: of the whole example
        total = max(float(getattr(self.original, kind)) * batch, 1)
        by_name = {g.name: float(price[i]) / total for i, g in enumerate(self.graph.groups)}
        masks = list(self.masks.values())
        tensors = raw_tensors(self.generator) if self._options["lends"] else {}
        with lend(masks, self.graph, tensors):
            return self._options["penalty"](masks, [by_name[m.name] for m in masks])

    def widths(self) -> dict[str, int]:
        """Return the channels that live, by group."""
        widths = self.graph.widths
        widths.update({n: m.width for n, m in self._masks.items()})
        return widths

    def cost(self) -> Cost:
        """Return what the generator would cost if the dead channels were cut now."""
        return self.graph.cost(self.widths())

    def parcel(self) -> Parcel | None:
        """Return what `advance` will read of the masks, for a step to fetch with its own figures.

        ``None`` where nothing is left to choose, or nothing was learned yet.
        """
        decides = self._budget is not None and any(m.decides for m in self.masks.values())
        return Parcel(self.masks) if decides and self.progress > 0 else None

    def importance(self, fetched: Fetched | None = None) -> dict[str, np.ndarray]:
        """Return the importance of each channel by group name.

        Args:
            fetched: scores and sensitivity by name, on the CPU; without, they are read now.

        Raises:
            ConfigError: it is not one finite number a channel (an importance of the caller's own).
        """
        rank = self._options["importance"]
        tensors = raw_tensors(self.generator)
        observe(self.masks.values())
        seed, graph = self._options["seed"], self.graph
        return {
            n: checked(rank(graph[n], m, tensors, seed), graph[n], rank)
            for n, m in read_masks(self.masks, fetched).items()
        }

    def advance(self, progress: float, parcel: Parcel | None = None) -> list[Event]:
        """Anneal the masks to ``progress`` and kill channels down to the budget allowed there.

        Once dead, a channel stays dead; it is gated at all its readers from now on. The masks come
        to rest when the schedule has ended (`ChannelMask.rest`). Where `torch.distributed` runs,
        the ranks choose together: each of them must call this, at the same steps.

        Args:
            progress: of the run, in [0, 1].
            parcel: of this step, from `parcel`: then nothing is fetched from the device here,
                unless somebody wrote to the masks since its update.

        Raises:
            ConfigError: progress is outside [0, 1] or goes back.
            GraphError: the generator has been sharded (FSDP2).
            RanksError: ranks differ in what they chose, or one is gone.
        """
        if not 0 <= progress <= 1 or progress < self.progress - 1e-9:
            raise ConfigError(f"progress {progress} must rise from {self.progress} to at most 1")
        if any(hasattr(scores, "device_mesh") for scores in self.parameters()):
            refuse_sharded(self.generator)
        self.progress = progress
        fetched = None if parcel is None else parcel.of(self.masks)
        for mask in self.masks.values():
            mask.set_progress(progress)
        observe(self.masks.values(), together=True)
        if self._budget is None:
            return []
        allowed = self._budget.allowed(self._schedule(progress))
        events = self._kill_to(allowed, fetched)
        for mask in self.masks.values() if allowed <= self._budget.goal else ():
            mask.rest()
        return events

    def _kill_to(self, allowed: float, fetched: Fetched | None = None) -> list[Event]:
        assert self._budget is not None
        if self._budget.load(self.graph, self.widths()) <= allowed:
            return []
        fixed = frozenset(g.name for g in self.graph.groups if g.name not in self._masks)
        alive = {g.name: np.ones(g.size, bool) for g in self.graph.groups}
        alive.update({n: m.living for n, m in self._masks.items()})
        value = {g.name: np.ones(g.size) for g in self.graph.groups}
        value.update(mean_over_ranks(self.importance(fetched), next(self.parameters())))
        order = self._options["allocation"]
        keys = None if order is None else order(self.graph, value, alive)
        killed = self._budget.kill(self.graph, alive, value, allowed, fixed, keys)
        kill_together(self._masks, killed)
        # Ranks that had chosen differently would have other shapes at the next cut.
        alive_now = (m.living.tobytes() for m in self._masks.values())
        check_alike(alive_now, "choices of channels")
        count = sum(len(k) for k in killed.values())
        return [Event("kill", self.progress, count, self.cost())] if count else []

    def budget_of(self, target: Given) -> Budget:
        """Return the budget of ``target`` under the rules that `wrap` was given.

        Raises:
            TargetError: it is out of reach.
        """
        return budget_for(target, self.original, self.graph, self.masks, self._options)

    # -- the choice ------------------------------------------------------------------------------
    def plan(self, target: Given | None = None) -> Plan:
        """Freeze the choice: keep the living channels with an open gate.

        Args:
            target: kill down to this size first (default: the one given to `wrap`, if any); of
                parameters and MACs.

        Raises:
            ConfigError: the target is of time.
            TargetError: the target is out of reach.
        """
        if target is not None:
            budget = self.budget_of(target)
            if self._budget is not None:
                budget = replace(budget, units=self._budget.units)
            else:
                # What the scores closed in training is gone first; the budget decides on the rest.
                for mask in self.masks.values():
                    mask.hold_open(decided(mask, least=self._options["min_channels"]))
            self._budget = budget
        if self._budget is not None:
            self._kill_to(self._budget.goal)
        least = self._options["min_channels"]
        keep = {n: decided(m, least=least) for n, m in self.masks.items()}
        return Plan.of(self.graph, keep, relative=self.history is not None)

    def whole_plan(self) -> Plan:
        """Return the cut from the original network to what `prune` returns now, for `gc.save`."""
        plan = self.plan()
        return plan if self.history is None else self.history.then(plan)

    def apply(self, plan: Plan) -> None:
        """Close the gates of every channel that ``plan`` drops, and open all others, for good.

        Raises:
            GraphError: the plan names a group this network does not have, or drops channels of a
                group that has no mask.
        """
        alive = alive_of(plan, self.graph, self._masks)
        for name, mask in self._masks.items():
            mask.settle(alive.get(name, torch.ones(mask.size, dtype=torch.bool)))

    def shrink(
        self,
        optimizers: Sequence[torch.optim.Optimizer] = (),
        copies: Sequence[nn.Module] = (),
    ) -> Plan | None:
        """Really cut the dead channels, in place: generator, optimiser state and EMA copies (ours).

        Training goes on as if the dead channels were held at zero. `graph` and `history` are
        brought up to date. A DistributedDataParallel around the generator has to be made anew, on
        every rank; the old one refuses to run (docs/scale.md).

        Args:
            optimizers: those that hold the generator's parameters or the mask scores.
            copies: deep copies of the wrapped generator (EMA), or modules around one such as
                `torch.optim.swa_utils.AveragedModel`; their masks are cut as well.

        Returns:
            The plan of this cut, relative to the network before it; None when nothing was dead.

        Raises:
            GraphError: the cut network does not run; nothing has changed then.
            TargetError: its output is not that of the masked network; nothing has changed then.
        """
        keep = {n: cuttable(m) for n, m in self.masks.items()}
        if all(len(k) == self._masks[n].size for n, k in keep.items()):
            return None
        plan = Plan.of(self.graph, keep, relative=self.history is not None)
        check = CutCheck(
            self.generator, self.graph.example, seed=len(self.cut_errors),
            training=self.graph.trains != "same",
        )  # fmt: skip
        before = list(self.generator.parameters())
        held = {id(p) for o in optimizers for g in o.param_groups for p in g["params"]}
        self._operate(plan, optimizers, copies, check)
        held |= {id(p) for p in self.generator.parameters()}
        warn_of_forgotten([p for p in before if id(p) not in held], optimizers)
        return plan

    def _operate(
        self,
        plan: Plan,
        optimizers: Sequence[torch.optim.Optimizer],
        copies: Sequence[nn.Module],
        check: CutCheck | None = None,
    ) -> None:
        history = plan if self.history is None else self.history.then(plan)
        cut = cut_in_place(
            self.generator, plan, graph=self.graph, masks=self._masks,
            site=self._options["site"], optimizers=optimizers, copies=copies, check=check,
        )  # fmt: skip
        self._graph, self._masks, self.history = cut.graph, cut.masks, history
        self.cut_errors += cut.errors

    def prune(self, plan: Plan | None = None, *, check: bool = True) -> nn.Module:
        """Return a plain, smaller module without gates, verified against the masked one (ours).

        It shares no tensor with the generator, which stays wrapped, its gates settled on the plan.

        Args:
            plan: relative to the network as it is now; default `plan`.
            check: compare the two networks in float64 (`verification` holds the result); warns
                where no input moves the output, so that any cut would pass.

        Raises:
            TargetError: the cut network differs from the masked one (the message gives the error).
        """
        plan = plan if plan is not None else self.plan()
        settled = Settled(self.masks)
        self.apply(plan)
        small = plain_copy(self.generator, plan)
        if check:
            found = compared(self.generator, small, plan, self.graph, follows=self._follows)
            self.verification = found
            if not found.passed:
                raise settled.undo(found)
        return small

    def unwrap(self) -> nn.Module:
        """Take all gates off; weights, names and order are bit for bit as without them."""
        if self._first_call is not None:
            self._first_call.remove()
            self._first_call = None
        detach(self.generator)
        outdate_shells(self.generator, "the end of its masks")
        self._masks, self._graph = {}, None
        return self.generator

    # -- saving ----------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Return what the generator's own state dict does not hold, as JSON-ready values."""
        known = budget_to(self._budget)
        return State(self.progress, self.original, self.history, self.cut_errors, known).to_json()

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        optimizers: Sequence[torch.optim.Optimizer] = (),
        copies: Sequence[nn.Module] = (),
    ) -> None:
        """Bring a freshly wrapped generator to the shape of the saved one.

        Replays the saved cuts on generator, optimisers and copies; load their own state dicts
        afterwards.

        Raises:
            CheckpointError: the state is damaged, or of another generator.
        """
        saved = State.from_json(state)
        saved.check_fits(self.original, self.history)
        budget = budget_from(self._budget, saved.measured)
        if saved.history is not None:
            self._operate(saved.history, optimizers, copies)
        self._budget = budget
        self.progress, self.cut_errors = saved.progress, list(saved.cut_errors)
