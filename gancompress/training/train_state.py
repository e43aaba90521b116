"""Everything that learns in a run, as one thing to save and to restore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError
from gancompress.graph.plan import Plan
from gancompress.masks.attach import detach, find_masks
from gancompress.masks.mask import ChannelMask
from gancompress.masks.parcel import Parcel
from gancompress.recipes.schema import Recipe
from gancompress.surgery.cut_record import merge_cuts
from gancompress.training.discriminator_shrink import Narrowing
from gancompress.training.distillation import Distillation
from gancompress.training.ema import Averager
from gancompress.training.loss_scale import LossScale
from gancompress.training.optimizer_by_name import make_mask_optimizer, make_optimizer
from gancompress.training.optimizer_state import (
    check_held_once,
    held_by,
    load_optimizer_state,
    optimizer_state,
)
from gancompress.training.recovery import finite_and, finite_step, finite_tensors
from gancompress.training.regularisation import Regularisers
from gancompress.wrapping import Masked

if TYPE_CHECKING:
    from gancompress.training.companion import Companions

Parts = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Snapshot:
    """All that decides how a run goes on from ``step``: tensors by part, and plain JSON."""

    step: int
    parts: Parts
    state: dict[str, Any]


@dataclass
class TrainState:
    """The networks of a run with their optimisers, and how far it has come (ours).

    ``optimizers`` maps ``generator``, ``masks``, ``connectors`` and ``discriminator`` to the
    optimisers there are; ``masked`` is ``None`` without masks and once they are gone;
    ``narrowing`` takes channels out of the discriminator; ``regularisers`` remember things.

    Attributes:
        step: updates made.
        rollbacks: how often the run went back to an earlier state; part of every random stream.
        plan: what was cut for good, ``verified`` how exactly, ``size`` what it costs now.
        widths: channels left by group when they were last counted.
        parts_of_batch: in how many a rank's share of a batch goes through the networks.
        masks_at_rest: the masks' state once they are gone.
        scales: of the losses of ``generator`` and ``discriminator``, for float16.
        overflowed: the last update that was left out only overflowed float16.
        companions: what acts beside the updates, with tensors of its own.
        last_cut: the plan of the last cut of this process, on the network before it.
    """

    generator: nn.Module
    ema: nn.Module
    discriminator: nn.Module | None
    masked: Masked | None
    distillation: Distillation
    optimizers: dict[str, torch.optim.Optimizer]
    narrowing: Narrowing | None = None
    regularisers: Regularisers | None = None
    step: int = 0
    rollbacks: int = 0
    plan: Plan | None = None
    verified: dict[str, Any] | None = None
    size: dict[str, int] = field(default_factory=dict[str, int])
    masks_at_rest: dict[str, Any] | None = None
    scales: dict[str, LossScale] = field(default_factory=dict[str, LossScale])
    overflowed: bool = False
    _averager: Averager | None = None
    _parcel: Parcel | None = None
    _compiled: Any = None
    _mask_copies: dict[str, ChannelMask] = field(default_factory=dict[str, ChannelMask])
    companions: Companions | None = None
    widths: dict[str, int] = field(default_factory=dict[str, int])
    last_cut: Plan | None = None
    parts_of_batch: int = 1

    @classmethod
    def gather(
        cls,
        recipe: Recipe,
        generator: nn.Module,
        ema: nn.Module,
        discriminator: nn.Module | None,
        *,
        masked: Masked | None,
        distillation: Distillation,
        narrowing: Narrowing | None = None,
        regularisers: Regularisers | None = None,
    ) -> TrainState:
        """Make the optimisers: mask scores and connectors have one of their own."""
        scores = list(masked.parameters()) if masked is not None else []
        known = {id(p) for p in scores}
        weights = [p for p in generator.parameters() if id(p) not in known]
        optimizers = {"generator": make_optimizer(weights, recipe.generator_optim)}
        if scores:
            numbers = recipe.generator_optim
            optimizers["masks"] = make_mask_optimizer(scores, numbers, recipe.mask_lr)
        connectors = [p for _, p in distillation.parameters()]
        if connectors:
            optimizers["connectors"] = make_optimizer(connectors, recipe.generator_optim)
        if discriminator is not None and recipe.discriminator.policy != "frozen":
            optimizers["discriminator"] = make_optimizer(
                list(discriminator.parameters()), recipe.discriminator_optim
            )
        networks = generator, ema, discriminator, masked
        state = cls(*networks, distillation, optimizers, narrowing, regularisers)
        state.parts_of_batch = recipe.accumulate
        device = next(generator.parameters()).device
        for name in ("generator", "discriminator"):
            state.scales[name] = LossScale(device, on=recipe.precision == "fp16")
        return state

    @property
    def learning_discriminator(self) -> nn.Module | None:
        """The discriminator where it is updated; ``None`` for a frozen one, or without one."""
        return self.discriminator if "discriminator" in self.optimizers else None

    def student(self, *, compiled: bool) -> nn.Module:
        """Return what runs the generator in training: itself, or compiled as it is since a cut."""
        if not compiled:
            return self.generator
        if self._compiled is None:
            for mask in self.masked.masks.values() if self.masked is not None else ():
                mask.watch()
            self._compiled = torch.compile(self.generator)
        return self._compiled

    def networks(self) -> list[nn.Module]:
        """Return the networks whose forward passes may write buffers, and what is like them."""
        return [n for n in (self.generator, self.discriminator, self.regularisers) if n is not None]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield everything that an optimiser may hold, by a name unique among all networks."""
        for prefix, module in (("G", self.generator), ("D", self.discriminator)):
            if module is not None:
                for name, parameter in module.named_parameters():
                    yield f"{prefix}.{name}", parameter
        for name, parameter in self.distillation.parameters():
            yield f"L.{name}", parameter

    def generator_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimisers that hold the generator's parameters, scores included."""
        return [o for name, o in self.optimizers.items() if name in ("generator", "masks")]

    def set_learning_rates(self, recipe: Recipe, factor: float) -> None:
        """Scale every learning rate of the recipe by ``factor``."""
        rates = {
            "generator": recipe.generator_optim.lr,
            "connectors": recipe.generator_optim.lr,
            "masks": recipe.mask_lr,
            "discriminator": recipe.discriminator_optim.lr,
        }
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name] * factor

    def average(self, decay: float) -> None:
        """Move the average; its masks hold the same choice as the generator's, not an average."""
        if self._averager is None:
            self._averager = Averager(self.ema, self.generator)
        self._averager.update(decay)
        if self.masked is not None:
            self._mask_copies = self._mask_copies or find_masks(self.ema)
            for name, mask in self.masked.masks.items():
                self._mask_copies[name].follow(mask)

    def learning_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return all optimisers but the discriminator's."""
        return [o for name, o in self.optimizers.items() if name != "discriminator"]

    def zero_grad(self) -> None:
        """Forget the gradients of everything but the discriminator."""
        for optimizer in self.learning_optimizers():
            optimizer.zero_grad(set_to_none=True)

    def update(self) -> None:
        """Step everything but the discriminator."""
        for optimizer in self.learning_optimizers():
            optimizer.step()

    def update_if_finite(self, total: Tensor) -> bool:
        """Step everything but the discriminator if ``total`` and all gradients are finite.

        The loss scale learns of it. What the choice of channels needs comes along with the answer.
        """
        self._parcel = self.masked.parcel() if self.masked is not None else None
        host: Tensor | None = None
        if self._parcel is None:
            sound = finite_step(total, self.learners())
        else:
            sound, host = finite_and(self._parcel.packed, total, self.learners())
        self.overflowed = self.scales["generator"].update(total, sound=sound)
        if sound:
            self.update()
        if self._parcel is not None and host is not None and self.masked is not None:
            self._parcel.arrived(host, self.masked.masks)
        return sound

    def learners(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that `update` moves."""
        for optimizer in self.learning_optimizers():
            yield from held_by(optimizer)

    def measure_size(self) -> dict[str, int]:
        """Return what generator and narrowing opponent cost, dead channels left out.

        Once the masks are gone it stays what it was.
        """
        if self.masked is not None:
            cost = self.masked.cost()
            self.size = {"params": cost.params, "macs": cost.macs}
            self.widths = self.masked.widths()
            if self.narrowing is not None:
                self.size["discriminator_params"] = self.narrowing.params
        return self.size

    def advance(self, progress: float) -> None:
        """Kill channels down to what the schedule allows at ``progress``."""
        parcel, self._parcel = self._parcel, None
        if self.masked is not None and self.masked.advance(progress, parcel):
            self.mute()

    def cut(self, *, last: bool) -> bool:
        """Really cut the dead channels; the last cut is verified, and takes the masks off.

        Returns whether any channel went.

        Raises:
            TargetError: the cut is not exact.
        """
        assert self.masked is not None
        if last:
            self.masked.prune()
            self.verified = self.verification()
        changed = self.shrink()
        self.measure_size()
        if last:
            self.plan, self.masks_at_rest = self.masked.history, self.masked.state_dict()
            self.unmask()
        return changed

    def shrink(self) -> bool:
        """Really cut the dead channels, everywhere; return whether there were any."""
        assert self.masked is not None
        self._forget_places()
        graph = self.masked.graph
        plan = self.masked.shrink(self.generator_optimizers(), [self.ema])
        if plan is None:
            return False
        self.last_cut = plan
        self.distillation.shrink(partial(graph.kept, plan))
        if self.narrowing is not None:
            optimizer = self.optimizers["discriminator"]
            self.narrowing.follow(self.masked.cost(), self.masked.original, [optimizer])
        self.check_optimizers()
        return True

    def mute(self) -> None:
        """Hide the channels that are dead now from the distillers."""
        if self.masked is not None:
            self.distillation.mute(partial(self.masked.graph.kept, alive_plan(self.masked)))

    def unmask(self) -> None:
        """Take the masks off generator and average, and their scores out of the optimisers."""
        assert self.masked is not None
        self._forget_places()
        since = self.masked.cuts_before
        self.masked.unwrap()
        detach(self.ema)
        for module in (self.generator, self.ema):
            merge_cuts(module, since)
        self.optimizers.pop("masks")
        self.masked = None
        self.check_optimizers()

    def _forget_places(self) -> None:
        """Modules come and go in a cut: where tensors are kept is looked up again."""
        self._averager, self._mask_copies, self._compiled = None, {}, None

    def verification(self) -> dict[str, Any] | None:
        """Return what the last verified cut showed, ready for JSON."""
        found = None if self.masked is None else self.masked.verification
        if self.masked is None or found is None:
            return None
        # A channel may have gone in any of the cuts: the largest error counts.
        worst = max([found.max_error, *self.masked.cut_errors])
        return {"max_error": worst, "passed": found.passed, "cuts": len(self.masked.cut_errors)}

    def check_optimizers(self) -> None:
        """Make sure that every live parameter is held exactly once."""
        check_held_once(self.generator_optimizers(), self.generator.parameters())
        if self.discriminator is not None and "discriminator" in self.optimizers:
            held = [self.optimizers["discriminator"]]
            check_held_once(held, self.discriminator.parameters())

    def snapshot(self, total: int) -> Snapshot:
        """Return copies of all that decides how a run of ``total`` steps goes on."""
        state = {
            "total": total,
            "rollbacks": self.rollbacks,
            "plain": self.masked is None,
            "verified": self.verified,
            "masks": self.masks_at_rest if self.masked is None else self.masked.state_dict(),
            "discriminator": self.narrowing and self.narrowing.state(),
            "size": self.size,
            "scales": {name: scale.state_dict() for name, scale in self.scales.items()},
            "widths": self.widths,
            "parts_of_batch": self.parts_of_batch,
        }
        return Snapshot(self.step, clone_parts(self.parts()), state)

    def resume(self, step: int, parts: Mapping[str, Mapping[str, Tensor]], state: Any) -> None:
        """Go on from what `snapshot` returned; the masks have the shapes of that moment already.

        Raises:
            CheckpointError: it is of other networks.
        """
        self.step, self.rollbacks, self.size = step, state["rollbacks"], state["size"]
        self.widths = state.get("widths", {})  # from before they were kept: empty
        self.parts_of_batch = state.get("parts_of_batch", self.parts_of_batch)
        self.verified = state["verified"] or self.verified
        for name, scale in self.scales.items():
            scale.load_state_dict(state.get("scales", {}).get(name, {}))
        if self.masked is not None and state["plain"]:
            self.plan, self.masks_at_rest = self.masked.history, state["masks"]
            self.unmask()
        if self.narrowing is not None:
            optimizer = self.optimizers["discriminator"]
            self.narrowing.restore(state.get("discriminator"), [optimizer])
        self.restore(parts)
        self.mute()

    def roll_back(self, good: Snapshot) -> None:
        """Go back to ``good``, a snapshot since the last cut; later steps draw other noise."""
        self.rollbacks += 1
        self.go_back(good)

    def go_back(self, good: Snapshot) -> None:
        """Go back to ``good``, a snapshot since the last cut, as if nothing had been since."""
        self.step = good.step
        self.restore(good.parts)
        if self.masked is not None:
            self.masked.progress = float(good.state["masks"]["progress"])
        self.mute()

    def tensors(self) -> Iterator[Tensor]:
        """Yield what must be the same on all ranks: all that a checkpoint would hold."""
        # By name: optimisers list their states in the order in which these came to be.
        for _, part in sorted(self.parts().items()):
            yield from (part[name] for name in sorted(part))

    def parts(self) -> Parts:
        """Return all tensors that decide how the run goes on."""
        parts: Parts = {
            "generator": dict(self.generator.state_dict()),
            "ema": dict(self.ema.state_dict()),
        }
        if self.discriminator is not None:
            parts["discriminator"] = dict(self.discriminator.state_dict())
        if self.regularisers is not None:
            parts["regularisers"] = dict(self.regularisers.state_dict())
        if len(self.distillation):
            parts["lessons"] = self.distillation.state_dict()
        if self.companions is not None and (held := self.companions.tensors()):
            parts["companions"] = held
        for name, optimizer in self.optimizers.items():
            parts[f"optim-{name}"] = optimizer_state(optimizer, self.named_parameters())
        return parts

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take up what ``parts`` returned; networks must have the shapes of that moment.

        Raises:
            CheckpointError: they have not.
        """
        modules = {
            "generator": self.generator, "ema": self.ema,
            "discriminator": self.discriminator, "regularisers": self.regularisers,
        }  # fmt: skip
        for name, module in modules.items():
            if module is None:
                continue
            try:
                module.load_state_dict(dict(parts[name]))
            except (RuntimeError, KeyError) as error:
                raise CheckpointError(
                    f"the checkpoint does not fit this {name}: {error}. Resume with the networks "
                    "and the recipe that the run was started with"
                ) from error
        if len(self.distillation):
            self.distillation.load_state_dict(parts.get("lessons", {}))
        if self.companions is not None:
            self.companions.restore(parts.get("companions", {}))
        for name, optimizer in self.optimizers.items():
            if f"optim-{name}" not in parts:
                raise CheckpointError(
                    f"the checkpoint has no optimiser state of {name}: resume with the recipe that "
                    "the run was started with"
                )
            saved = dict(parts[f"optim-{name}"])
            load_optimizer_state(optimizer, self.named_parameters(), saved)


def alive_plan(masked: Masked) -> Plan:
    """Return the plan that keeps the channels alive now (relative to the last cut)."""
    keep = {name: np.flatnonzero(mask.living).tolist() for name, mask in masked.masks.items()}
    return Plan.of(masked.graph, keep)


def clone_parts(parts: Parts) -> Parts:
    """Return copies that training does not change."""
    return {n: {k: t.detach().clone() for k, t in part.items()} for n, part in parts.items()}


def finite_parts(parts: Parts) -> bool:
    """Return whether no tensor of a checkpoint-to-be holds NaN or infinity."""
    return all(finite_tensors(part.values()) for part in parts.values())
