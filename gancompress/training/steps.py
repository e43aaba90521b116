"""The two updates of a step: the discriminator's, then the generator's with all that teaches it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.losses.protocol import LOSSES
from gancompress.modules.discriminator import call_of
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Draw, Shown, Task
from gancompress.training.arithmetic import Arithmetic
from gancompress.training.augment import augment
from gancompress.training.losses import ADVERSARIAL, AdversarialLoss
from gancompress.training.recovery import finite_step
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
    """

    recipe: Recipe
    task: Task
    teacher: nn.Module
    device: torch.device
    arithmetic: Arithmetic

    def discriminator(self, state: TrainState, figures: Figures) -> Fakes | None:
        """Update the discriminator as often as the recipe says, and return the last fakes.

        Those keep their graph: one forward of the student serves the generator's update too.
        Returns ``None`` when a loss or gradient is not finite; the update is not made then.
        """
        D = state.learning_discriminator
        rounds = 1 if D is None else self.recipe.discriminator.steps
        made: Fakes | None = None
        for turn in range(rounds):
            draw = self._draw(state, state.step * rounds + turn)
            batch = self.task.batch(draw).to(self.device)
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
            loss = _mean(map(self._adversarial.discriminator, real_logits, fake_logits))
            optimizer = state.optimizers["discriminator"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if not finite_step(loss, D.parameters()):
                return None
            optimizer.step()
            figures |= {"d_loss": loss, "real": _flat(real_logits), "fake": _flat(fake_logits)}
        return made

    def generator(self, state: TrainState, made: Fakes, figures: Figures) -> bool:
        """Update the student, its masks and connectors; return whether all was finite.

        Adversarial loss, the task's own terms, distillers and penalty are added up.
        """
        total = torch.zeros((), device=self.device)
        if state.discriminator is not None:
            figures["g_loss"] = self._adversarial_loss(state.discriminator, made)
            total = total + self.recipe.adversarial.weight * figures["g_loss"]
        for name, term in self._task_terms(state, made):
            figures[name] = term
            total = total + term
        if len(state.distillation):
            figures["distill"] = self._distillation_loss(state, made)
            total = total + figures["distill"]
        if state.masked is not None and self.recipe.penalty.weight > 0:
            figures["penalty"] = state.masked.penalty()
            total = total + self.recipe.penalty.weight * figures["penalty"]
        state.zero_grad()
        total.backward()
        sound = finite_step(total, state.learners())
        if sound:
            state.update()
        return sound

    def _adversarial_loss(self, D: nn.Module, made: Fakes) -> Tensor:
        D.requires_grad_(False)
        with self._arithmetic():
            logits = self._logits(D, self.task.shown(made.batch, made.output), made.rng)
        return _mean(map(self._adversarial.generator, logits))

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
        return Draw(self.recipe.batch, number, rng)

    def _real(self, draw: Draw) -> Shown:
        if self.task.has_real and self.recipe.discriminator.real != "teacher":
            real = self.task.real(draw)
        else:
            batch = self.task.batch(draw).to(self.device)
            with torch.no_grad(), self._arithmetic():
                real = self.task.shown(batch, self.task.output(batch.run(self.teacher)))
        layout = self.arithmetic.layout if real.output.dim() == 4 else torch.preserve_format
        here = real.to(self.device)
        return replace(here, output=here.output.to(memory_format=layout))

    def _logits(self, D: nn.Module, shown: Shown, rng: torch.Generator) -> list[Tensor]:
        """Return the logits of each head of ``D``, on augmented outputs."""
        call = call_of(D, shown.output, shown.labels, shown.condition)
        seen = augment(shown.output, self.recipe.augment, rng)
        return call(D, image=seen, label=shown.labels, condition=shown.condition)

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
