"""What a companion is: something that acts before and after the two updates of each step.

They live in `gancompress.training.companions`. The loop knows one thing of them, `Companions`: it
says when a step begins and ends, asks how far the masks' schedule may go, and saves their tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gancompress.data.order import stream
from gancompress.errors import CheckpointError
from gancompress.plugins.kinds import COMPANIONS as COMPANIONS
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Draw, Shown, Task
from gancompress.training.log import Log
from gancompress.training.optimizer_state import load_optimizer_state, optimizer_state
from gancompress.training.train_state import TrainState


@dataclass(frozen=True)
class Company:
    """Who takes part in the run that a companion is made for (ours).

    Attributes:
        recipe: of the run.
        task: gives inputs and real samples.
        student: the network that is delivered, under masks where it is pruned.
        teacher: frozen original.
        judge: the discriminator that was given, ``discriminator`` the one that judges the student;
            the latter is ``None`` where the student has none.
        pruned: whether the student has masks.
        device: where everything lies.
    """

    recipe: Recipe
    task: Task
    student: nn.Module
    teacher: nn.Module
    judge: nn.Module | None
    discriminator: nn.Module | None
    pruned: bool
    device: torch.device

    def draw(self, who: str, step: int) -> Draw:
        """Return what asks the task for a batch of its own; a function of seed, name and step."""
        return Draw(self.recipe.batch, step, stream(self.recipe.seed, who, step))

    def batch(self, draw: Draw) -> Batch:
        """Return inputs for ``draw``."""
        return self.task.batch(draw).to(self.device)

    def real(self, draw: Draw) -> Shown:
        """Return what counts as real in this run: the data, else the teacher's outputs."""
        if self.task.has_real and self.recipe.discriminator.real != "teacher":
            return self.task.real(draw).to(self.device)
        batch = self.batch(draw)
        with torch.no_grad():
            return self.task.shown(batch, self.task.output(batch.run(self.teacher)))


@dataclass(frozen=True)
class Moment:
    """One step of the run, as companions see it (ours).

    Attributes:
        state: everything that learns.
        progress: of the masked steps, in [0, 1].
        log: takes events.
        figures: losses and logits of the step; empty before it.
        sound: whether all was finite.
    """

    state: TrainState
    progress: float
    log: Log
    figures: Mapping[str, Tensor]
    sound: bool = True


class Companion(nn.Module):
    """Base of all: does nothing. Tensors of its state dict are saved and restored with the run."""

    def before(self, moment: Moment) -> None:
        """Act before the updates of a step."""

    def after(self, moment: Moment) -> None:
        """Act after them; not called for a step that was undone."""

    def pace(self, progress: float) -> float:
        """Return how far the schedule of the masks may be at ``progress``; must not fall."""
        return progress

    def optimizers(self) -> Iterator[tuple[torch.optim.Optimizer, nn.Module]]:
        """Yield each optimiser of its own with the module whose parameters it holds."""
        yield from ()

    def release(self) -> None:
        """Take off whatever was put on the networks."""


class Companions:
    """All companions of a run (ours)."""

    def __init__(self, members: Mapping[str, Companion]) -> None:
        self.members = dict(members)

    def before(self, moment: Moment) -> None:
        """Tell all that a step begins."""
        for member in self.members.values():
            member.before(moment)

    def after(self, moment: Moment) -> None:
        """Tell all that a step has ended."""
        for member in self.members.values():
            member.after(moment)

    def pace(self, progress: float) -> float:
        """Return the least that any of them allows at ``progress``."""
        return min([progress, *(m.pace(progress) for m in self.members.values())])

    def tensors(self) -> dict[str, Tensor]:
        """Return all that decides how they go on, by name."""
        found: dict[str, Tensor] = {}
        for name, member in self.members.items():
            found |= {f"{name}/state/{k}": v for k, v in member.state_dict().items()}
            for number, (optimizer, module) in enumerate(member.optimizers()):
                saved = optimizer_state(optimizer, module.named_parameters())
                found |= {f"{name}/{number}/{k}": v for k, v in saved.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` returned.

        Raises:
            CheckpointError: it is of other companions.
        """
        for name, member in self.members.items():
            state = _under(tensors, f"{name}/state/")
            try:
                member.load_state_dict(state)
            except RuntimeError as error:
                raise CheckpointError(
                    f"the checkpoint does not fit companion {name!r}: {error}. Resume with the "
                    "recipe that the run was started with"
                ) from error
            for number, (optimizer, module) in enumerate(member.optimizers()):
                saved = _under(tensors, f"{name}/{number}/")
                load_optimizer_state(optimizer, module.named_parameters(), saved)

    def release(self) -> None:
        """Leave the networks as they were found."""
        for member in self.members.values():
            member.release()


CompanionFactory = Callable[[Company], Companion]


def gather_companions(
    recipe: Recipe,
    task: Task,
    networks: tuple[nn.Module, nn.Module, nn.Module | None, nn.Module | None],
    pruned: bool,
    device: torch.device,
) -> Companions:
    """Return the recipe's companions; ``networks`` are student, teacher, judge and discriminator.

    See `Company`.

    Raises:
        ConfigError: one cannot work in this run; which and why is in the message.
    """
    company, members = Company(recipe, task, *networks, pruned, device), dict[str, Companion]()
    for number, entry in enumerate(company.recipe.companions):
        factory: CompanionFactory = COMPANIONS.bind(entry)
        members[f"{number}-{entry.name}"] = factory(company).to(company.device)
    return Companions(members)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
