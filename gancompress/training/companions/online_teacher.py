"""A teacher that goes on training while the student listens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from gancompress.distill.taps import deafened
from gancompress.errors import ConfigError
from gancompress.modules.copying import duplicate
from gancompress.modules.discriminator import same_call
from gancompress.modules.undisturbed import BufferGuard
from gancompress.training.companion import COMPANIONS, Companion, Company, Moment
from gancompress.training.losses import ADVERSARIAL
from gancompress.training.recovery import finite_step
from gancompress.training.regularisation import judge_of


@COMPANIONS.register("online_teacher")
class OnlineTeacher(Companion):
    """Train the teacher against a discriminator of its own, once in ``every`` steps (OMGD).

    Ren et al. 2021: the student never meets a discriminator, and learns from a teacher that is
    trained along. Theirs are two teachers, a wide and a deep one, that start from nothing; here it
    is the one given, and goes on from where it is. Each update is one of the discriminator and one
    of the teacher, by the recipe's adversarial loss and augmentation, with Adam at ``lr``.

    Raises:
        ConfigError: no discriminator or no real data, a task with losses of its own for the
            teacher to follow, or a student that has a discriminator as well.
    """

    def __init__(
        self,
        company: Company,
        *,
        every: Annotated[int, Field(ge=1)] = 3,
        lr: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-4,
    ) -> None:
        super().__init__()
        if company.judge is None or not company.task.has_real:
            what = "a discriminator" if company.judge is None else "real data"
            raise ConfigError(
                f"companion online_teacher needs {what} to go on training the teacher: give it, or "
                "leave the companion out"
            )
        if company.recipe.discriminator.real == "teacher":
            raise ConfigError(
                "companion online_teacher: with discriminator.real=teacher the teacher would learn "
                "from itself; set discriminator.real=data"
            )
        self._company, self.every = (company,), every
        self.teacher = company.teacher
        self.judge = same_call(duplicate(company.judge), company.judge).train()
        betas = company.recipe.generator_optim.betas
        self._adams = [
            (torch.optim.Adam(list(m.parameters()), lr=lr, betas=betas), m)
            for m in (self.teacher, self.judge)
        ]

    def after(self, moment: Moment) -> None:
        """Make one update of both, at every so many steps."""
        if moment.state.step % self.every:
            return
        (company,) = self._company
        recipe, task = company.recipe, company.task
        loss = ADVERSARIAL.bind(recipe.adversarial.plugin)()
        draw = company.draw("online teacher", moment.state.step)
        batch, real = company.batch(draw), company.real(draw)
        guard = BufferGuard(self.teacher, self.judge)
        modes = [(m, m.training) for m in self.teacher.modules()]
        try:
            with deafened(self.teacher):
                output = task.output(batch.run(self.teacher.requires_grad_(True).train())).float()
            judge = judge_of(self.judge.requires_grad_(True), recipe.augment, draw.rng)
            pairs = zip(judge(real), judge(task.shown(batch, output.detach())), strict=True)
            total = torch.stack([loss.discriminator(r, f) for r, f in pairs]).mean()
            sound = self._step(1, total)
            self.judge.requires_grad_(False)
            heads = judge(task.shown(batch, output))
            total = torch.stack([loss.generator(head) for head in heads]).mean()
            sound = self._step(0, total) and sound
        finally:
            self.teacher.requires_grad_(False)
            for module, mode in modes:
                module.training = mode
        if not sound:
            guard.restore()

    def _step(self, number: int, total: torch.Tensor) -> bool:
        adam, module = self._adams[number]
        adam.zero_grad(set_to_none=True)
        total.backward()
        sound = finite_step(total, module.parameters())
        if sound:
            adam.step()
        adam.zero_grad(set_to_none=True)
        return sound

    def optimizers(self) -> Iterator[tuple[torch.optim.Optimizer, nn.Module]]:
        """Yield the Adam of the teacher and that of its discriminator."""
        yield from self._adams
