"""The two updates of a step: the discriminator's, then the generator's with all that teaches it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.order import derived_seed, stream
from gancompress.losses.protocol import LOSSES
from gancompress.modules.discriminator import DiscriminatorCall, call_of
from gancompress.modules.ranks import rank, world
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Draw, Shown, Task
from gancompress.training.arithmetic import Arithmetic
from gancompress.training.augment import augment
from gancompress.training.averaging import PartBuffers, average_buffers, average_gradients
from gancompress.training.feature_matching import FeatureMatching
from gancompress.training.loss_scale import LossScale
from gancompress.training.losses import ADVERSARIAL, AdversarialLoss
from gancompress.training.optimizer_state import held_by
from gancompress.training.prefetch import AheadBatches
from gancompress.training.recompute import recomputed
from gancompress.training.recovery import finite_step
from gancompress.training.regularisation import Judging, Making, judge_of, make_of
from gancompress.training.shares import (
    Luck,
    luck_of,
    part_of_shown,
    shared_batch,
    shared_shown,
)
from gancompress.training.synced_norm import SyncedBatchNorm
from gancompress.training.train_state import TrainState

Figures = dict[str, Tensor]
"""Losses and logits of a step, by name, for the log."""


@dataclass(frozen=True)
class Fakes:
    """A part of a batch and what the student made of it.

    ``output`` carries its gradient where the generator's update uses it; it is ``None`` as long as
    it has not been made.
    """

    batch: Batch
    luck: Luck
    output: Tensor | None = None

    @property
    def made(self) -> Tensor:
        """The output."""
        assert self.output is not None
        return self.output


@dataclass(frozen=True)
class Steps:
    """Makes the updates of one recipe on one task (ours).

    Attributes:
        recipe: weights, sizes and policies.
        task: where batches come from.
        teacher: frozen; also whose outputs count as real where there is no data.
        device: where everything is computed.
        arithmetic: in which precision and memory format.
        matching: how features are matched; ``None`` where they are not.
        ahead: prepares batches in other processes; ``None``: they are made here, when needed.
        parts: in how many a rank's share goes through the networks; 0: ``recipe.accumulate``.

    A batch is shared by the ranks, and goes through the networks in parts, whose gradients add up
    to those of the whole.
    """

    recipe: Recipe
    task: Task
    teacher: nn.Module
    device: torch.device
    arithmetic: Arithmetic
    matching: FeatureMatching | None = None
    ahead: AheadBatches | None = None
    parts: int = 0

    def update(self, state: TrainState, figures: Figures) -> bool:
        """Make both updates; return whether all losses and gradients were finite."""
        synced = self.recipe.batch_norm == "synced" and world() > 1
        with SyncedBatchNorm() if synced else nullcontext():
            made = self.discriminator(state, figures)
            sound = made is not None and self.generator(state, made, figures)
        average_buffers(state.networks())
        return sound

    def discriminator(self, state: TrainState, figures: Figures) -> list[Fakes] | None:
        """Update the discriminator as often as the recipe says, and return the last fakes.

        Undivided, those keep their graph: one forward of the student serves the generator's update
        too; the parts of a batch are made again then. Returns ``None`` when a loss or gradient is
        not finite; the update is not made then.
        """
        D = state.learning_discriminator
        rounds = 1 if D is None else self.recipe.discriminator.steps
        made: list[Fakes] = []
        for turn in range(rounds):
            number, last = state.step * rounds + turn, turn == rounds - 1
            draw = self._draw(state, number)
            made = self._asked(draw)
            if D is None and self._parts > 1:
                return made
            found: list[Figures] = []
            reals: list[Shown | Batch] = []
            ours, judged = self._buffers(state.generator), self._buffers(D, state.regularisers)
            for index, fakes in enumerate(made):
                self._begin_part(state, index, ours, judged)
                fakes = self._make(state, fakes, learn=last and self._parts == 1)
                if D is not None:
                    reals = reals or self._reals(draw)
                    fakes = replace(fakes, luck=fakes.luck.from_now(draw.rng))
                    found.append(self._judge(D, state, number, reals[index], fakes))
                made[index] = replace(fakes, output=None) if self._parts > 1 else fakes
            ours.end(keep=not last)
            judged.end()
            if D is None:
                return made
            seen = _mean_figures(found)
            learning = held_by(state.optimizers["discriminator"])
            loss = average_gradients(learning, seen.pop("loss"))
            state.scales["discriminator"].unscale([state.optimizers["discriminator"]])
            sound = finite_step(loss, learning)
            state.overflowed = state.scales["discriminator"].update(loss, sound=sound)
            if not sound:
                return None
            state.optimizers["discriminator"].step()
            figures |= seen
        return made

    def _judge(
        self, D: nn.Module, state: TrainState, number: int, asked: Shown | Batch, fakes: Fakes
    ) -> Figures:
        """Add the gradients of the discriminator's loss on one part; return what it was worth."""
        real = self._real(asked)
        D.requires_grad_(True)
        with self._arithmetic():
            real_logits = self._logits(D, real, fakes.luck)
            fake = self.task.shown(fakes.batch, fakes.made.detach())
            fake_logits = self._logits(D, fake, fakes.luck)
        d_loss = _mean(map(self._adversarial.discriminator, real_logits, fake_logits))
        loss, figures = d_loss, Figures()
        if state.regularisers is not None:
            seen = partial(self._judging, D, real, fake, fakes.luck.rng)
            with fakes.luck.whole():
                loss = loss + state.regularisers.loss("discriminator", number, seen)
            figures |= state.regularisers.figures("discriminator")
        if self._is_first(fakes):
            state.optimizers["discriminator"].zero_grad(set_to_none=True)
        self._backward(loss, state.scales["discriminator"])
        logits = {"real": _flat(real_logits), "fake": _flat(fake_logits)}
        return figures | {"d_loss": d_loss.detach(), "loss": loss.detach()} | logits

    def generator(self, state: TrainState, made: list[Fakes], figures: Figures) -> bool:
        """Update the student, its masks and connectors; return whether all was finite.

        Adversarial loss, matched features, the task's own terms, distillers, penalty and
        regularisers are added up.
        """
        found: list[Figures] = []
        buffers = self._buffers(*state.networks())
        for index, fakes in enumerate(made):
            self._begin_part(state, index, buffers)
            if fakes.output is None:
                fakes = self._make(state, fakes, learn=True)
            seen = Figures()
            total = self._total(state, fakes, seen)
            if self._is_first(fakes):
                state.zero_grad()
            self._backward(total, state.scales["generator"])
            found.append({k: v.detach() for k, v in seen.items()} | {"loss": total.detach()})
        buffers.end()
        figures |= _mean_figures(found)
        total = average_gradients(state.learners(), figures.pop("loss"))
        state.scales["generator"].unscale(state.learning_optimizers())
        return state.update_if_finite(total)

    def _total(self, state: TrainState, made: Fakes, figures: Figures) -> Tensor:
        """Return the generator's loss on one part, and leave its terms in ``figures``."""
        total = torch.zeros((), device=self.device)
        if state.discriminator is not None:
            for name, weight, term in self._adversarial_terms(state.discriminator, made):
                figures[name] = term
                total = total + weight * term
        for name, term in self._task_terms(state, made):
            figures[name] = term
            total = total + term
        if len(state.distillation):
            figures["distill"] = self._distillation_loss(state, made)
            total = total + figures["distill"]
        if state.masked is not None and self.recipe.penalty.weight > 0:
            figures["penalty"] = state.masked.penalty()
            total = total + self.recipe.penalty.weight * figures["penalty"]
        if state.regularisers is not None:
            # Last: it runs the student again, and the distillers look at the step's own forward.
            seen = partial(self._making, state.generator, made)
            with made.luck.whole():
                total = total + state.regularisers.loss("generator", state.step, seen)
            figures |= state.regularisers.figures("generator")
        return total

    def _adversarial_terms(self, D: nn.Module, made: Fakes) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of what the discriminator says to the student's outputs."""
        D.requires_grad_(False)
        shown, weight = self.task.shown(made.batch, made.made), self.recipe.adversarial.weight
        if self.matching is None:
            with self._arithmetic():
                logits = self._logits(D, shown, made.luck)
            yield "g_loss", weight, _mean(map(self._adversarial.generator, logits))
            return
        # The very same augmentation of both: only what the student did differs.
        draws = made.luck.rng.get_state()
        with self._arithmetic():
            found = self.matching.judged(D, *self._augmented(D, shown, made.luck))
            made.luck.rng.set_state(draws)
            goal = self.task.shown(made.batch, self._goal(made.batch))
            with torch.no_grad():
                wanted = self.matching.judged(D, *self._augmented(D, goal, made.luck))
        yield "g_loss", weight, _mean(map(self._adversarial.generator, found.heads))
        yield "feature_matching", self.matching.weight, self.matching.loss(found, wanted)

    def _goal(self, batch: Batch) -> Tensor:
        """Return the output that made ones are to look like to the discriminator."""
        if self.recipe.feature_matching.to == "teacher":
            with torch.no_grad():
                return self.task.output(batch.run(self.teacher))
        assert batch.wanted is not None
        return batch.wanted

    def _task_terms(self, state: TrainState, made: Fakes) -> Iterator[tuple[str, Tensor]]:
        """Yield the task's own losses, and the recipe's between output and wanted one."""
        with self._arithmetic():
            yield from self.task.terms(made.batch, made.made, state.generator).items()
        for entry in self.recipe.losses:
            assert made.batch.wanted is not None
            loss = LOSSES.bind(entry)(made.made, made.batch.wanted)
            yield entry.name, entry.weight * loss.float()

    def _distillation_loss(self, state: TrainState, made: Fakes) -> Tensor:
        # Where the distillers alone teach, nobody would look at the rest of a batch.
        share = 1.0 if state.discriminator is None else self.recipe.distill_share
        seen = made.batch.first(math.ceil(share * self.recipe.batch / made.luck.parts))
        with self._arithmetic():
            with torch.no_grad():
                answer = self.task.output(seen.run(self.teacher))
            return state.distillation.loss(
                inputs=made.batch.arguments,
                labels=made.batch.labels,
                student_images=made.made,
                teacher_images=answer,
                condition=made.batch.condition,
                host_labels=made.batch.host_labels,
            )

    @property
    def _parts(self) -> int:
        return self.parts or self.recipe.accumulate

    def _buffers(self, *modules: nn.Module | None) -> PartBuffers:
        return PartBuffers(*(m for m in modules if m is not None), parts=self._parts)

    def _begin_part(self, state: TrainState, index: int, *buffers: PartBuffers) -> None:
        """Let a part begin like any other: from the same buffers, with draws of its own."""
        for held in buffers:
            held.begin(index)
        if self._parts > 1:
            number = rank() * self._parts + index
            seed = derived_seed(self.recipe.seed, "torch", state.step, state.rollbacks, number)
            torch.manual_seed(seed)

    def _is_first(self, fakes: Fakes) -> bool:
        return fakes.luck.part < world()

    def _backward(self, loss: Tensor, scale: LossScale) -> None:
        scale.scaled(loss if self._parts == 1 else loss / self._parts).backward()

    def _memory(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Return the context of a forward pass of ``module`` whose gradient is asked for."""
        asked = self.recipe.activation_checkpointing and torch.is_grad_enabled()
        return recomputed(module) if asked else nullcontext()

    def _draw(self, state: TrainState, number: int) -> Draw:
        rng = stream(self.recipe.seed, "step", number, state.rollbacks)
        return Draw(self.recipe.batch, number, rng, rank(), world(), state.rollbacks)

    def _batches(self, draw: Draw, source: Task | AheadBatches) -> list[Batch]:
        """Return the parts of this rank's share of a batch."""
        with luck_of(draw).whole():
            batch = shared_batch(source.batch(draw), draw)
        return [batch.part(index, self._parts) for index in range(self._parts)]

    def _asked(self, draw: Draw) -> list[Fakes]:
        """Return what the student is asked in one update; nothing is made of it yet."""
        batches = self._batches(draw, self.ahead or self.task)
        parts = draw.parts * self._parts
        n = draw.n // parts
        lucks = (Luck(draw.rng, n, draw.part + draw.parts * i, parts) for i in count())
        return [Fakes(b, luck.from_now(draw.rng)) for b, luck in zip(batches, lucks, strict=False)]

    def _make(self, state: TrainState, fakes: Fakes, *, learn: bool) -> Fakes:
        batch, generator = fakes.batch.to(self.device), state.student(compiled=self.recipe.compile)
        with self._arithmetic(), torch.set_grad_enabled(learn), self._memory(generator):
            return replace(fakes, batch=batch, output=self.task.output(batch.run(generator)))

    def _reals(self, draw: Draw) -> list[Shown | Batch]:
        """Return real samples for each part, or inputs for the teacher where there are none."""
        if not (self.task.has_real and self.recipe.discriminator.real != "teacher"):
            return [*self._batches(draw, self.task)]
        with luck_of(draw).whole():
            shown = shared_shown((self.ahead or self.task).real(draw), draw)
        return [part_of_shown(shown, index, self._parts) for index in range(self._parts)]

    def _real(self, asked: Shown | Batch) -> Shown:
        if isinstance(asked, Shown):
            real = asked
        else:
            batch = asked.to(self.device)
            with torch.no_grad(), self._arithmetic():
                real = self.task.shown(batch, self.task.output(batch.run(self.teacher)))
        layout = self.arithmetic.layout if real.output.dim() == 4 else torch.preserve_format
        here = real.to(self.device)
        return replace(here, output=here.output.to(memory_format=layout))

    def _logits(self, D: nn.Module, shown: Shown, luck: Luck) -> list[Tensor]:
        """Return the logits of each head of ``D``, on augmented outputs."""
        call, seen = self._augmented(D, shown, luck)
        with self._memory(D):
            return call(D, image=seen.output, label=seen.labels, condition=seen.condition)

    def _augmented(self, D: nn.Module, shown: Shown, luck: Luck) -> tuple[DiscriminatorCall, Shown]:
        call = call_of(D, shown.output, shown.labels, shown.condition)
        with luck.whole():
            output = augment(shown.output, self.recipe.augment, luck.rng)
        return call, replace(shown, output=output)

    def _judging(self, D: nn.Module, real: Shown, fake: Shown, rng: torch.Generator) -> Judging:
        real, fake = (replace(x, output=x.output.float()) for x in (real, fake))
        return Judging(judge_of(D, self.recipe.augment, rng), real, fake, rng)

    def _making(self, generator: nn.Module, made: Fakes) -> Making:
        return Making(make_of(generator, self.task), made.batch, made.luck.rng)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        return self.arithmetic.autocast(self.device)

    @property
    def _adversarial(self) -> AdversarialLoss:
        return ADVERSARIAL.bind(self.recipe.adversarial.plugin)()


def _mean(losses: Iterable[Tensor]) -> Tensor:
    found = list(losses)
    return found[0] if len(found) == 1 else torch.stack(found).mean()


def _mean_figures(parts: list[Figures]) -> Figures:
    """Return the figures of a batch from those of its parts."""
    if len(parts) == 1:
        return parts[0]
    names = parts[0]
    return {k: torch.stack([p[k].detach().float().mean() for p in parts]).mean() for k in names}


def _flat(heads: Sequence[Tensor]) -> Tensor:
    return torch.cat([head.detach().flatten() for head in heads])
