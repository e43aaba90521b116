"""wrap(): learnable channel masks on a generator that stays itself."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, GraphError, TargetError, closest
from gancompress.graph.groups import ChannelGraph, Cost
from gancompress.graph.trace import trace
from gancompress.masks.attach import SITES, attach, detach, find_masks
from gancompress.masks.budget import Budget, Target
from gancompress.masks.importance import IMPORTANCES, magnitude
from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES
from gancompress.masks.relax import RELAXATIONS
from gancompress.masks.schedule import build_schedule
from gancompress.surgery.names import raw_tensors
from gancompress.surgery.operate import carried_channels, operate, sliced_copy
from gancompress.surgery.plan import Plan
from gancompress.surgery.vet import vetted_trace
from gancompress.surgery.verify import Verification, verify


@dataclass(frozen=True)
class Event:
    """Something that `Masked.advance` or `Masked.shrink` did."""

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
    """

    def __init__(self, generator: nn.Module, options: dict[str, Any]) -> None:
        self.generator, self._options = generator, options
        self.history: Plan | None = None
        self.verification: Verification | None = None
        self.progress = 0.0
        self._graph: ChannelGraph | None = None
        self._original: Cost | None = None
        self._budget: Budget | None = None
        self._masks: dict[str, ChannelMask] = {}
        self._schedule = build_schedule(options["schedule"], *options["window"])
        self._first_call: Any = None

    # -- set-up ----------------------------------------------------------------------------------
    def _wait_for_example(self) -> None:
        self._first_call = self.generator.register_forward_pre_hook(
            self._on_first_call, with_kwargs=True
        )

    def _on_first_call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._first_call.remove()
        self._first_call = None
        self._begin(args, kwargs)

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        graph = vetted_trace(self.generator, trace(self.generator, tuple(args), kwargs))
        self._original = graph.cost()
        chosen = self._choose(graph)
        if self._options["target"] is not None:
            self._budget = Budget(
                Target.parse(self._options["target"]), self._original,
                self._options["round_to"], self._options["min_channels"],
            )  # fmt: skip
            fixed = {g.name: g.size for g in graph.groups if g.name not in chosen}
            self._budget.check(graph, fixed)
        tensors = raw_tensors(self.generator)
        masks = {}
        for group in graph.groups:
            if group.name in chosen:
                mask = ChannelMask(group.name, group.size, self._options["relaxation"])
                rank = magnitude(group, mask, tensors, self._options["seed"])
                with torch.no_grad():
                    mask.scores.copy_(torch.from_numpy(rank))
                masks[group.name] = mask
        self._graph, self._masks = graph, masks
        attach(self.generator, graph, masks, self._options["site"])

    def _choose(self, graph: ChannelGraph) -> set[str]:
        """Apply include and exclude patterns, which name groups or the layers in them."""
        if not graph.groups:
            raise GraphError(
                f"no channel of {type(self.generator).__name__} can go. "
                "`gancompress inspect` shows why, layer by layer."
            )
        names = {g.name: {g.name, *(n.rpartition(".")[0] for n, _ in g.slots)} for g in graph.groups}
        chosen = set(names)
        for pattern in self._options["include"]:
            if not any(fnmatch.fnmatch(n, pattern) for all_ in names.values() for n in all_):
                known = sorted({n for all_ in names.values() for n in all_})
                raise ConfigError(f"include={pattern!r} matches no layer.{closest(pattern, known)}")
        for pattern in self._options["exclude"]:
            if not any(fnmatch.fnmatch(n, pattern) for all_ in names.values() for n in all_):
                known = sorted({n for all_ in names.values() for n in all_})
                raise ConfigError(f"exclude={pattern!r} matches no layer.{closest(pattern, known)}")
        if self._options["include"]:
            chosen = {
                g for g in chosen
                if any(fnmatch.fnmatch(n, p) for p in self._options["include"] for n in names[g])
            }  # fmt: skip
        return {
            g for g in chosen
            if not any(fnmatch.fnmatch(n, p) for p in self._options["exclude"] for n in names[g])
        }  # fmt: skip

    @property
    def graph(self) -> ChannelGraph:
        """Channel groups of the generator as it is now."""
        if self._graph is None:
            raise GraphError("no example yet: call the generator once, or wrap(generator, example=...)")
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

    # -- training --------------------------------------------------------------------------------
    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the mask scores (they are among ``generator.parameters()`` as well)."""
        for mask in self.masks.values():
            yield mask.scores

    def penalty(self) -> Tensor:
        """Return the sparsity penalty, a scalar; its weight is the caller's."""
        kind = self._budget.target.kind if self._budget is not None else "params"
        widths = self._widths()
        price = self.graph.marginal(widths, kind)
        total = max(float(getattr(self.original, kind)) * (self.graph.batch if kind == "macs" else 1), 1)
        by_name = {g.name: float(price[i]) / total for i, g in enumerate(self.graph.groups)}
        masks = list(self.masks.values())
        return PENALTIES.get(self._options["penalty"])(masks, [by_name[m.name] for m in masks])

    def _widths(self) -> dict[str, int]:
        widths = self.graph.widths
        widths.update({n: int(m.alive.sum()) for n, m in self._masks.items()})
        return widths

    def cost(self) -> Cost:
        """Return what the generator would cost if the dead channels were cut now."""
        return self.graph.cost(self._widths())

    def importance(self) -> dict[str, np.ndarray]:
        """Return the importance of each channel by group name."""
        rank = IMPORTANCES.get(self._options["importance"])
        tensors = raw_tensors(self.generator)
        return {
            n: rank(self.graph[n], m, tensors, self._options["seed"]) for n, m in self.masks.items()
        }

    def advance(self, progress: float) -> list[Event]:
        """Anneal the masks to ``progress`` and kill channels down to the budget allowed there.

        Once dead, a channel stays dead; it is gated at all its readers from now on.

        Raises:
            ConfigError: progress is outside [0, 1] or goes back.
        """
        if not 0 <= progress <= 1 or progress < self.progress - 1e-9:
            raise ConfigError(f"progress {progress} must rise from {self.progress} to at most 1")
        self.progress = progress
        for mask in self.masks.values():
            mask.set_progress(progress)
        if self._budget is None:
            return []
        full = self._budget.target.of(self._budget.original)
        allowed = full - (full - self._budget.goal) * self._schedule(progress)
        return self._kill_to(allowed)

    def _kill_to(self, allowed: float) -> list[Event]:
        assert self._budget is not None
        if self._budget.target.of(self.cost()) <= allowed:
            return []
        fixed = frozenset(g.name for g in self.graph.groups if g.name not in self._masks)
        alive = {g.name: np.ones(g.size, bool) for g in self.graph.groups}
        alive.update({n: m.alive.cpu().numpy().copy() for n, m in self._masks.items()})
        value = {g.name: np.ones(g.size) for g in self.graph.groups}
        value.update(self.importance())
        killed = self._budget.kill(self.graph, alive, value, allowed, fixed)
        for name, channels in killed.items():
            self._masks[name].alive[torch.from_numpy(channels)] = False
        count = sum(len(k) for k in killed.values())
        return [Event("kill", self.progress, count, self.cost())] if count else []

    # -- the choice ------------------------------------------------------------------------------
    def plan(self, target: str | Target | None = None) -> Plan:
        """Freeze the choice: keep the living channels with an open gate.

        Args:
            target: kill down to this size first (default: the one given to `wrap`, if any).

        Raises:
            TargetError: the target is out of reach.
        """
        if target is not None:
            budget = Budget(
                Target.parse(target), self.original,
                self._options["round_to"], self._options["min_channels"],
            )  # fmt: skip
            budget.check(self.graph, {g: n for g, n in self.graph.widths.items() if g not in self._masks})
            self._budget = budget
        if self._budget is not None:
            self._kill_to(self._budget.goal)
        keep = {}
        for name, mask in self.masks.items():
            # Under a budget the dead channels are the choice; without one the gates are.
            kept = mask.alive if self._budget is not None else mask.hard().bool()
            floor = min(self._options["min_channels"], mask.size)
            if int(kept.sum()) < floor:
                best = torch.argsort(mask.scores.detach(), descending=True)[:floor]
                kept = kept.clone()
                kept[best] = True
            keep[name] = torch.nonzero(kept).flatten().tolist()
        return Plan.of(self.graph, keep)

    def apply(self, plan: Plan) -> None:
        """Close the gates of every channel that ``plan`` drops, and open all others, for good.

        Raises:
            GraphError: the plan names a group this network does not have, or drops channels of a
                group that has no mask.
        """
        for name, kept in plan.keep.items():
            group = self.graph[name]
            alive = torch.zeros(group.size, dtype=torch.bool)
            alive[kept] = True
            if name in self._masks:
                self._masks[name].settle(alive)
            elif not alive.all():
                raise GraphError(f"plan drops channels of {name!r}, which was excluded from masking")

    def shrink(
        self,
        optimizers: Sequence[torch.optim.Optimizer] = (),
        copies: Sequence[nn.Module] = (),
    ) -> Plan | None:
        """Really cut the dead channels, in place: generator, optimiser state and EMA copies (ours).

        Training goes on as if the dead channels were held at zero. `graph` and `history` are
        brought up to date.

        Args:
            optimizers: those that hold the generator's parameters or the mask scores.
            copies: deep copies of the wrapped generator (EMA); their masks are cut as well.

        Returns:
            The plan of this cut, relative to the network before it; None when nothing was dead.

        Raises:
            GraphError: the cut network does not run; nothing has changed then.
        """
        keep = {n: torch.nonzero(m.alive).flatten().tolist() for n, m in self.masks.items()}
        if all(len(k) == self._masks[n].size for n, k in keep.items()):
            return None
        plan = Plan.of(self.graph, keep)
        self._operate(plan, optimizers, copies)
        return plan

    def _operate(
        self, plan: Plan, optimizers: Sequence[torch.optim.Optimizer], copies: Sequence[nn.Module]
    ) -> None:
        old_masks = [self._masks, *(find_masks(c) for c in copies)]
        if any(set(m) != set(self._masks) for m in old_masks):
            raise GraphError("copies must be deep copies of the wrapped generator, with its masks")
        graph, _ = operate(
            self.generator, plan, graph=self.graph, strip=detach,
            optimizers=optimizers, copies=copies,
        )  # fmt: skip
        carried = carried_channels(self.graph, graph, plan)
        for module, masks in zip((self.generator, *copies), old_masks, strict=True):
            new = _carry_masks(masks, carried)
            if module is self.generator:
                for o in optimizers:
                    _carry_scores(o, masks, new, carried)
                self._masks = new
            attach(module, graph, new, self._options["site"])
        self._graph = graph
        self.history = plan if self.history is None else self.history.then(plan)

    def prune(self, plan: Plan | None = None, *, check: bool = True) -> nn.Module:
        """Return a plain, smaller module: no masks, no hooks, verified against the masked one (ours).

        The wrapped generator stays wrapped, with its gates settled on the plan.

        Raises:
            TargetError: the cut network differs from the masked one (the message gives the error).
        """
        plan = plan if plan is not None else self.plan()
        self.apply(plan)
        small, twins = sliced_copy(self.generator, plan, detach)
        for p in [*small.parameters(), *small.buffers()]:
            p.data = p.data.clone() if id(p) not in {id(t) for t in twins.values()} else p.data
        if check:
            args, kwargs = self.graph.example
            self.verification = verify(self.generator, small, args, kwargs, plan=plan)
            if not self.verification.passed:
                raise TargetError(
                    f"the cut network is {self.verification}; it is refused. The masked generator is "
                    "unchanged. Exclude layers with exclude=(...) to find the one at fault."
                )
        return small

    def unwrap(self) -> nn.Module:
        """Take all gates off; weights, names and order are bit for bit as without them."""
        if self._first_call is not None:
            self._first_call.remove()
            self._first_call = None
        detach(self.generator)
        self._masks, self._graph = {}, None
        return self.generator

    # -- saving ----------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Return what the generator's own state dict does not hold, as JSON-ready values."""
        return {
            "progress": self.progress,
            "original": [self.original.params, self.original.macs],
            "history": None if self.history is None else self.history.to_json(),
        }

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        optimizers: Sequence[torch.optim.Optimizer] = (),
        copies: Sequence[nn.Module] = (),
    ) -> None:
        """Bring a freshly wrapped generator to the shape of the saved one.

        Replays the saved cuts on generator, optimisers and copies; load their own state dicts
        afterwards.
        """
        if state["history"] is not None:
            plan = Plan.from_json(state["history"])
            self._operate(plan, optimizers, copies)
        self.progress = float(state["progress"])
        self._original = Cost(*state["original"])
        if self._budget is not None:
            self._budget = Budget(
                self._budget.target, self._original,
                self._options["round_to"], self._options["min_channels"],
            )  # fmt: skip


def _carry_masks(
    old: Mapping[str, ChannelMask], carried: Mapping[str, tuple[str, np.ndarray]]
) -> dict[str, ChannelMask]:
    """Make masks for the cut network that go on where the old ones were."""
    new = {}
    for name, (source, channels) in carried.items():
        if source not in old:
            continue
        before = old[source]
        mask = ChannelMask(name, len(channels), before.relaxation).to(before.scores.device)
        index = torch.from_numpy(channels).to(before.scores.device)
        with torch.no_grad():
            mask.scores.copy_(before.scores[index])
            mask.sensitivity.copy_(before.sensitivity[index])
            mask.alive.copy_(before.alive[index])
            mask.progress.copy_(before.progress)
            mask.settled.copy_(before.settled)
        mask.sync()
        mask.scores.requires_grad_(before.scores.requires_grad)
        new[name] = mask
    return new


def _carry_scores(
    optimizer: torch.optim.Optimizer,
    old: Mapping[str, ChannelMask],
    new: Mapping[str, ChannelMask],
    carried: Mapping[str, tuple[str, np.ndarray]],
) -> None:
    """Re-bind an optimiser from old to new scores, state sliced."""
    swap = {}
    for name, mask in new.items():
        source, channels = carried[name]
        swap[id(old[source].scores)] = (mask.scores, torch.from_numpy(channels))
    gone = {id(m.scores) for m in old.values()} - set(swap)
    for group in optimizer.param_groups:
        row = []
        for p in group["params"]:
            if id(p) in gone:
                optimizer.state.pop(p, None)
                continue
            new_p, index = swap.get(id(p), (p, None))
            row.append(new_p)
            if index is not None and p in optimizer.state:
                state = optimizer.state.pop(p)
                optimizer.state[new_p] = {
                    k: v[index.to(v.device)] if isinstance(v, Tensor) and v.shape == p.shape else v
                    for k, v in state.items()
                }
        group["params"] = row


def wrap(
    generator: nn.Module,
    example: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str | Target | None = None,
    relaxation: str = "ste",
    penalty: str = "cost",
    importance: str = "scores",
    schedule: str = "cubic",
    window: tuple[float, float] = (0.0, 1.0),
    site: str = "reader",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    round_to: int = 1,
    min_channels: int = 1,
    seed: int = 0,
) -> Masked:
    """Put learnable channel masks on every group of ``generator`` (PPCD's mask layers; placement ours).

    The generator stays the same object and its forward the same call; with all gates open its
    output is unchanged. `Masked.unwrap` undoes everything, bit for bit.

    Args:
        generator: any module; its source is not touched.
        example: inputs of one call (tensor, tuple, or mapping of keywords); without it they are
            taken from the first forward call.
        kwargs: keyword arguments beside a tuple.
        target: ``"params=5.2x"`` or ``"macs=0.2"``; `Masked.advance` then kills down to it.
        relaxation: from `RELAXATIONS`.
        penalty: from `PENALTIES`.
        importance: from `IMPORTANCES`; decides, per cost saved, who goes.
        schedule: from `SCHEDULES`.
        window: progress at which the removal starts and ends.
        site: ``"reader"`` gates the raw weights that read a group; ``"output"`` multiplies the
            writing layer's output (the paper's literal placement, for ablation).
        include: glob patterns of groups or layers; empty means all.
        exclude: glob patterns that are kept whole.
        round_to: widths become multiples of this.
        min_channels: each group keeps at least so many.
        seed: of the random importance.

    Raises:
        ConfigError: an unknown name or a pattern that matches nothing.
        GraphError: the forward fails, or nothing can be pruned.
        TargetError: the target is out of reach; states the smallest size and what holds it up.
    """
    for registry, name in ((RELAXATIONS, relaxation), (PENALTIES, penalty), (IMPORTANCES, importance)):
        registry.get(name)
    if site not in SITES:
        raise ConfigError(f"site={site!r} is not one of {', '.join(SITES)}")
    if round_to < 1 or min_channels < 1:
        raise ConfigError(f"round_to={round_to} and min_channels={min_channels} must be at least 1")
    if target is not None:
        target = Target.parse(target)
    if any(isinstance(m, ChannelMask) for m in generator.modules()):
        raise GraphError(f"{type(generator).__name__} is wrapped already: unwrap() it first")
    options = {
        "target": target, "relaxation": relaxation, "penalty": penalty, "importance": importance,
        "schedule": schedule, "window": tuple(window), "site": site, "include": tuple(include),
        "exclude": tuple(exclude), "round_to": round_to, "min_channels": min_channels, "seed": seed,
    }  # fmt: skip
    masked = Masked(generator, options)
    if example is None and kwargs is None:
        masked._wait_for_example()
    else:
        from gancompress.graph.trace import call_arguments

        masked._begin(*call_arguments(example, kwargs))
    return masked
