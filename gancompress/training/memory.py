"""When memory runs out: the same batch in more parts, before or after it has happened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from gancompress.data.layouts import memory_here
from gancompress.errors import OutOfMemoryError, lack_of_memory
from gancompress.modules.discriminator import call_of
from gancompress.modules.ranks import largest, world
from gancompress.modules.undisturbed import undisturbed
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Task
from gancompress.training.log import Log
from gancompress.training.participants import Participants
from gancompress.training.recovery import Recovery
from gancompress.training.steps import Figures, Steps
from gancompress.training.train_state import TrainState


class Updates:
    """Makes the updates of a run; where memory runs out in one, of smaller parts (ours).

    The run goes back to its last good state, and each batch goes through the networks in twice as
    many parts from there on: as with ``accumulate``, the batch that a step learns from stays what
    it was. Checkpoints remember the number. Several ranks do not do this: while one of them fails
    the others wait for its gradients.
    """

    def __init__(self, steps: Steps, recovery: Recovery, log: Log) -> None:
        self.steps, self.recovery, self.log = steps, recovery, log

    def update(self, state: TrainState, figures: Figures) -> bool | None:
        """Make both updates; return whether all was finite, ``None`` when the run went back.

        Raises:
            OutOfMemoryError: the parts cannot be smaller.
        """
        try:
            return replace(self.steps, parts=state.parts_of_batch).update(state, figures)
        except Exception as error:
            cause = lack_of_memory(error)
            if cause is None or world() > 1:
                raise
        # Out of the except clause: its traceback holds what the step had made.
        self._make_room(state, cause)
        return None

    def _make_room(self, state: TrainState, cause: str) -> None:
        batch, parts = self.steps.recipe.batch, state.parts_of_batch
        more = next_parts(batch, 1, parts + 1, at_least=2 * parts)
        if more is None:
            size = batch // parts
            raise OutOfMemoryError(
                f"out of memory at step {state.step}, with {size} sample{'s' * (size > 1)} at a "
                f"time: {cause}. Try activation_checkpointing=true, a smaller network or input, or "
                "a machine with more memory; the run goes on from its last checkpoint with --resume"
            )
        for optimizer in state.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        state.go_back(self.recovery.good)
        if self.steps.device.type == "cuda":
            torch.cuda.empty_cache()
        state.parts_of_batch = more
        self.log.resume(state.step)
        tell(self.log, state.step, batch, more, f"memory ran out ({cause})")


def next_parts(batch: int, ranks: int, least: int, *, at_least: int = 1) -> int | None:
    """Return the smallest number of parts from ``at_least``, else from ``least``, that divides.

    ``None``: there is none. Each of ``ranks`` has an equal share of ``batch``, and each part of it
    an equal share of that.
    """
    share = batch // ranks
    fitting = [n for n in range(least, share + 1) if share % n == 0]
    return next((n for n in fitting if n >= at_least), fitting[-1] if fitting else None)


def parts_again(recipe: Recipe, saved: int) -> int:
    """Return in how many parts a run goes on that went in ``saved``, perhaps with other ranks."""
    wanted, share = max(saved, recipe.accumulate), recipe.batch // world()
    if share % wanted == 0:
        return wanted
    return next_parts(recipe.batch, world(), recipe.accumulate, at_least=wanted) or share


def tell(log: Log, step: int, batch: int, parts: int, why: str) -> None:
    """Say that the batch goes through in ``parts`` from ``step`` on, and ``why``."""
    text = (
        f"{why}: from step {step} on each batch of {batch} goes through in {parts} parts, whose "
        "gradients add up to those of the whole. Norms over a batch see the parts"
    )
    log.event("memory", text, step=step, accumulate=parts)


def foresee(recipe: Recipe, task: Task, people: Participants, state: TrainState, log: Log) -> None:
    """Choose smaller parts before step 0 where a step is sure not to fit (ours).

    A CPU's allocator seldom says no: the system ends the process instead, without a word. What the
    backward passes of a step keep is measured on two samples; where that alone is more than this
    machine, container or ``ulimit`` has, the parts are made smaller. On a GPU, and with
    ``activation_checkpointing``, nothing is foreseen.

    Raises:
        OutOfMemoryError: one sample is too much.
    """
    device = next(people.student.parameters()).device
    have = memory_here()
    if device.type != "cpu" or recipe.activation_checkpointing or have is None:
        return
    each = kept_by_a_sample(task, people, device)
    share, parts = recipe.batch // world(), state.parts_of_batch
    wanted = parts
    while wanted is not None and each * (share // wanted) > have:
        wanted = next_parts(recipe.batch, world(), wanted + 1)
    found = largest(share + 1 if wanted is None else wanted, "how many parts fit")
    if found > share:
        raise OutOfMemoryError(
            f"a step keeps at least {gib(each)} for one sample, and {gib(have)} of memory are all "
            "there is. Try activation_checkpointing=true, a smaller input, or another machine"
        )
    if found > parts:
        state.parts_of_batch = found
        why = f"a step keeps at least {gib(each * (share // parts))} of the {gib(have)} there are"
        tell(log, state.step, recipe.batch, found, why)


def kept_by_a_sample(task: Task, people: Participants, device: torch.device) -> int:
    """Return the bytes that the backward passes of a step keep at once, for each sample (ours).

    At most at the discriminator's update: the student's graph, and the discriminator's on real and
    made samples. A lower bound: weights, gradients and what operators use on the way come on top.
    """
    example, student, judge = people.example, people.student, people.discriminator
    with undisturbed(student, training=True), people.arithmetic.autocast(device):
        with kept(student) as by_student, torch.enable_grad():
            made = task.output(example.run(student))
        if judge is None:
            return by_student[0] // len(example)
        shown = task.shown(example, made.detach())
        call = call_of(judge, shown.output, shown.labels, shown.condition)
        with (
            undisturbed(judge, training=judge.training),
            kept(judge) as by_judge,
            torch.enable_grad(),
        ):
            call(judge, image=shown.output, label=shown.labels, condition=shown.condition)
    return (by_student[0] + 2 * by_judge[0]) // len(example)


@contextlib.contextmanager
def kept(module: nn.Module) -> Iterator[list[int]]:
    """Yield a list with one number: the bytes that graphs of ``module`` made in the body keep.

    Each memory counts once; that of its weights and buffers, which is there anyway, does not.
    """
    total = [0]
    own = (*module.parameters(), *module.buffers())
    held = {_memory(tensor): tensor for tensor in own}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided and _memory(tensor) not in held:
            held[_memory(tensor)] = tensor.detach()  # as long as it lives its address is its own
            total[0] += tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield total


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def gib(size: int) -> str:
    """Return bytes in GiB, as text."""
    return f"{size / 2**30:,.2f} GiB"
