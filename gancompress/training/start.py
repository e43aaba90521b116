"""What a run needs to know before its first step, and what it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from gancompress.errors import ConfigError
from gancompress.graph.plan import Plan
from gancompress.modules.ranks import rank, world
from gancompress.recipes.schema import Recipe
from gancompress.training.arithmetic import RECORD, Arithmetic
from gancompress.training.callbacks import Callback
from gancompress.training.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint
from gancompress.training.distributed import by_first, same_checkpoint
from gancompress.training.log import Log, PlainScreen, Screen, Silent
from gancompress.training.run_folder import RunFolder
from gancompress.training.shares import check_shares


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        generator: a plain module in eval mode with the averaged weights (still masked when the run
            was stopped before its masks were cut).
        plan: what was cut, relative to the generator given; ``None`` when nothing was.
        history: one mapping of figures per logged step.
        run_dir: the run folder, if any.
        exit_code: 0 done; 75 or 130 stopped by a signal, resumable.
        verified: masked against cut network, ``max_error`` and ``passed``; ``None`` without a cut.
    """

    generator: nn.Module
    plan: Plan | None
    history: list[dict[str, float]]
    run_dir: Path | None
    exit_code: int = 0
    verified: dict[str, Any] | None = None


def run_lengths(recipe: Recipe, max_steps: int | None) -> tuple[int, int]:
    """Return the steps under masks (all of them, for other kinds) and of fine-tuning."""
    total = recipe.steps + recipe.finetune_steps
    if max_steps is None or max_steps >= total:
        return recipe.steps, recipe.finetune_steps
    if max_steps < 1:
        raise ConfigError(f"max_steps is {max_steps}; it must be at least 1")
    steps = max(1, round(max_steps * recipe.steps / total))
    return steps, max_steps - steps


def check_recipe(recipe: Recipe, discriminator: nn.Module | None, *, has_real: bool) -> None:
    """Refuse a recipe that does not go with what is given (ours).

    ``has_real`` says whether there are real samples.

    Raises:
        ConfigError: what is missing or too much is in the message.
    """
    check_shares(recipe.batch, world(), recipe.accumulate)
    judged = discriminator is not None or makes_discriminator(recipe)
    if recipe.kind == "train" and not has_real:
        raise ConfigError("kind train needs a data set: nothing else says what is wanted")
    if recipe.kind == "train" and not (judged or recipe.losses):
        raise ConfigError(
            "kind train needs a discriminator, or losses to what is wanted: give one, or set "
            "discriminator.policy=fresh"
        )
    if recipe.discriminator.real == "data" and not has_real:
        raise ConfigError(
            "discriminator.real is data, and none is given; give images, or set "
            "discriminator.real=teacher"
        )
    untrained = recipe.steps + recipe.finetune_steps == 0
    if not (judged or recipe.distill or recipe.losses or untrained):
        raise ConfigError("nothing to learn from: no discriminator, no distiller and no loss")


def makes_discriminator(recipe: Recipe) -> bool:
    """Return whether the run makes its own discriminator."""
    return recipe.discriminator.policy == "fresh" and recipe.adversarial.weight > 0


def starting_point(run: RunFolder, resume: str | Path | None, log: Log) -> Checkpoint | None:
    """Return the checkpoint to go on from: none, the newest good one, or the one at a path.

    Raises:
        CheckpointError: there are checkpoints, and none is good.
    """
    if resume is None:
        return None
    if resume == "auto":
        found, complaints = latest_checkpoint(run.checkpoints)
    else:
        found, complaints = load_checkpoint(Path(resume)), []
    for complaint in complaints:
        log.event("bad_checkpoint", f"passed over: {complaint}")
    if found is not None and run.moved:
        log.event("moved", f"resumed elsewhere ({run.moved}): equal to rounding, not bit for bit")
    if found is None:
        log.resume(0)  # killed before its first checkpoint: all of it is done again
    return found


def record_of(
    out: str | Path | None,
    resume: str | Path | None,
    screen: Screen | None,
    callbacks: Sequence[Callback] = (),
) -> tuple[RunFolder | None, Log]:
    """Return the run folder, if any, and the log that writes to it; rank 0 alone has them.

    Raises:
        ConfigError: there is no folder to resume from.
    """
    if resume is not None and out is None:
        raise ConfigError("resume needs the run folder: give out=...")
    if rank() > 0:
        return None, Log(None, Silent())
    run = RunFolder(Path(out)) if out is not None else None
    return run, Log(run, PlainScreen() if screen is None else screen, callbacks)


def begin_or_go_on(
    recipe: Recipe,
    run: RunFolder | None,
    resume: str | Path | None,
    arithmetic: Arithmetic,
    log: Log,
    stack: contextlib.ExitStack,
) -> Checkpoint | None:
    """Lock and fill the run folder until ``stack`` ends; return where to go on from, if anywhere.

    Raises:
        ConfigError: it holds another run, or is in use.
        CheckpointError: there are checkpoints, and none is good.
        StorageError: it cannot be written.
    """
    found: Checkpoint | None = None

    def begin() -> None:
        nonlocal found
        if run is not None:
            facts = {RECORD: arithmetic.record(), "ranks": world()}
            run.begin(recipe, resume=resume is not None, facts=facts)
            stack.push(run.leave)
            found = starting_point(run, resume, log)

    by_first(begin, "the start of the run")
    log.open(recipe, 0 if found is None else found.step)
    stack.callback(log.close)
    return same_checkpoint(found)


def check_same_length(found: Checkpoint, total: int) -> None:
    """Refuse to go on with a run of another length: its schedules would jump."""
    if found.state["total"] != total:
        raise ConfigError(
            f"{found.path} belongs to a run of {found.state['total']} steps, this one has "
            f"{total}: resume with the same max_steps"
        )


def lr_factor(progress: float, decay_from: float | None) -> float:
    """Return 1 up to ``decay_from``, then a straight line down to 0 at progress 1."""
    if decay_from is None or progress <= decay_from:
        return 1.0
    return (1.0 - progress) / (1.0 - decay_from)
