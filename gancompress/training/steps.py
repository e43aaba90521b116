"""The two updates of a step: the discriminator's, then the generator's with all that teaches it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.losses.protocol import LOSSES
from gancompress.modules.discriminator import DiscriminatorCall, call_of
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Draw, Shown, Task
from gancompress.training.arithmetic import Arithmetic
from gancompress.training.augment import augment
from gancompress.training.feature_matching import FeatureMatching
from gancompress.training.losses import ADVERSARIAL, AdversarialLoss
from gancompress.training.prefetch import AheadBatches
from gancompress.training.recovery import finite_step
from gancompress.training.regularisation import Judging, Making, judge_of, make_of
from gancompress.training.train_state import TrainState

Figures = dict[str, Tensor]
"""Losses and logits of a step, by name, for the log."""


@dataclass(frozen=True)
class Fakes:
    """What the student made of a batch; ``output`` carries its gradient."""

    batch: Batch
    output: Tensor
    rng: torch.Generator


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
    """

    recipe: Recipe
    task: Task
    teacher: nn.Module
    device: torch.device
    arithmetic: Arithmetic
    matching: FeatureMatching | None = None
    ahead: AheadBatches | None = None

    def discriminator(self, state: TrainState, figures: Figures) -> Fakes | None:
        """Update the discriminator as often as the recipe says, and return the last fakes.

        Those keep their graph: one forward of the student serves the generator's update too.
        Returns ``None`` when a loss or gradient is not finite; the update is not made then.
        """
        D = state.learning_discriminator
        rounds = 1 if D is None else self.recipe.discriminator.steps
        made: Fakes | None = None
        for turn in range(rounds):
            number = state.step * rounds + turn
            draw = self._draw(state, number)
            batch = (self.ahead or self.task).batch(draw).to(self.device)
            with self._arithmetic(), torch.set_grad_enabled(turn == rounds - 1):
                made = Fakes(batch, self.task.output(batch.run(state.generator)), draw.rng)
            if D is None:
                continue
            real = self._real(draw)
            D.requires_grad_(True)
            with self._arithmetic():
                real_logits = self._logits(D, real, draw.rng)
                fake = self.task.shown(batch, made.output.detach())
                fake_logits = self._logits(D, fake, draw.rng)
            d_loss = _mean(map(self._adversarial.discriminator, real_logits, fake_logits))
            loss = d_loss
            if state.regularisers is not None:
                seen = partial(self._judging, D, real, fake, draw.rng)
                loss = loss + state.regularisers.loss("discriminator", number, seen)
                figures |= state.regularisers.figures("discriminator")
            optimizer = state.optimizers["discriminator"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if not finite_step(loss, D.parameters()):
                return None
            optimizer.step()
            figures |= {"d_loss": d_loss, "real": _flat(real_logits), "fake": _flat(fake_logits)}
        return made

    def generator(self, state: TrainState, made: Fakes, figures: Figures) -> bool:
        """Update the student, its masks and connectors; return whether all was finite.

        Adversarial loss, matched features, the task's own terms, distillers, penalty and
        regularisers are added up.
        """
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
            total = total + state.regularisers.loss("generator", state.step, seen)
            figures |= state.regularisers.figures("generator")
        state.zero_grad()
        total.backward()
        sound = finite_step(total, state.learners())
        if sound:
            state.update()
        return sound

    def _adversarial_terms(self, D: nn.Module, made: Fakes) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of what the discriminator says to the student's outputs."""
        D.requires_grad_(False)
        shown, weight = self.task.shown(made.batch, made.output), self.recipe.adversarial.weight
        if self.matching is None:
            with self._arithmetic():
                logits = self._logits(D, shown, made.rng)
            yield "g_loss", weight, _mean(map(self._adversarial.generator, logits))
            return
        assert made.batch.wanted is not None
        # The very same augmentation of both: only what the student did differs.
        draws = made.rng.get_state()
        with self._arithmetic():
            found = self.matching.judged(D, *self._augmented(D, shown, made.rng))
            made.rng.set_state(draws)
            goal = self.task.shown(made.batch, made.batch.wanted)
            with torch.no_grad():
                wanted = self.matching.judged(D, *self._augmented(D, goal, made.rng))
        yield "g_loss", weight, _mean(map(self._adversarial.generator, found.heads))
        yield "feature_matching", self.matching.weight, self.matching.loss(found, wanted)

    def _task_terms(self, state: TrainState, made: Fakes) -> Iterator[tuple[str, Tensor]]:
        """Yield the task's own losses, and the recipe's between output and wanted one."""
        with self._arithmetic():
            yield from self.task.terms(made.batch, made.output, state.generator).items()
        for entry in self.recipe.losses:
            assert made.batch.wanted is not None
            loss = LOSSES.bind(entry)(made.output, made.batch.wanted)
            yield entry.name, entry.weight * loss.float()

    def _distillation_loss(self, state: TrainState, made: Fakes) -> Tensor:
        # Where the distillers alone teach, nobody would look at the rest of a batch.
        share = 1.0 if state.discriminator is None else self.recipe.distill_share
        seen = made.batch.first(math.ceil(share * self.recipe.batch))
        with self._arithmetic():
            with torch.no_grad():
                answer = self.task.output(seen.run(self.teacher))
            return state.distillation.loss(
                inputs=made.batch.inputs,
                labels=made.batch.labels,
                student_images=made.output,
                teacher_images=answer,
                condition=made.batch.condition,
            )

    def _draw(self, state: TrainState, number: int) -> Draw:
        rng = stream(self.recipe.seed, "step", number, state.rollbacks)
        return Draw(self.recipe.batch, number, rng, state.rollbacks)

    def _real(self, draw: Draw) -> Shown:
        if self.task.has_real and self.recipe.discriminator.real != "teacher":
            real = (self.ahead or self.task).real(draw)
        else:
            batch = self.task.batch(draw).to(self.device)
            with torch.no_grad(), self._arithmetic():
                real = self.task.shown(batch, self.task.output(batch.run(self.teacher)))
        layout = self.arithmetic.layout if real.output.dim() == 4 else torch.preserve_format
        here = real.to(self.device)
        return replace(here, output=here.output.to(memory_format=layout))

    def _logits(self, D: nn.Module, shown: Shown, rng: torch.Generator) -> list[Tensor]:
        """Return the logits of each head of ``D``, on augmented outputs."""
        call, seen = self._augmented(D, shown, rng)
        return call(D, image=seen.output, label=seen.labels, condition=seen.condition)

    def _augmented(
        self, D: nn.Module, shown: Shown, rng: torch.Generator
    ) -> tuple[DiscriminatorCall, Shown]:
        call = call_of(D, shown.output, shown.labels, shown.condition)
        return call, replace(shown, output=augment(shown.output, self.recipe.augment, rng))

    def _judging(self, D: nn.Module, real: Shown, fake: Shown, rng: torch.Generator) -> Judging:
        real, fake = (replace(x, output=x.output.float()) for x in (real, fake))
        return Judging(judge_of(D, self.recipe.augment, rng), real, fake, rng)

    def _making(self, generator: nn.Module, made: Fakes) -> Making:
        return Making(make_of(generator, self.task), made.batch, made.rng)

    def _arithmetic(self) -> AbstractContextManager[Any]:
        return self.arithmetic.autocast(self.device)

    @property
    def _adversarial(self) -> AdversarialLoss:
        return ADVERSARIAL.bind(self.recipe.adversarial.plugin)()


def _mean(losses: Iterable[Tensor]) -> Tensor:
    found = list(losses)
    return found[0] if len(found) == 1 else torch.stack(found).mean()


def _flat(heads: Sequence[Tensor]) -> Tensor:
    return torch.cat([head.detach().flatten() for head in heads])
