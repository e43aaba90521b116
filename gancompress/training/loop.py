"""The training loop, read top to bottom: for teachers, pruning, fine-tuning and distilling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gancompress.data.adapters import readable
from gancompress.data.arrays import described
from gancompress.data.inputs import InputSampler
from gancompress.data.order import derived_seed
from gancompress.errors import ConfigError
from gancompress.modules.joint_discriminator import Given, joined
from gancompress.modules.ranks import mean_, rank, take_first_
from gancompress.modules.undisturbed import BufferGuard
from gancompress.recipes.plugin_entries import check_plugins
from gancompress.recipes.schema import Recipe
from gancompress.saving import save
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Task
from gancompress.training.arithmetic import RECORD, recorded, tensor_cores
from gancompress.training.averaging import align
from gancompress.training.callbacks import Callback, check_loggers
from gancompress.training.checkpoint import Checkpoint
from gancompress.training.companion import Moment
from gancompress.training.cut_reconstruction import held_progress
from gancompress.training.cuts import cut_now, shrink_if_due
from gancompress.training.discriminator_shrink import start_narrowing
from gancompress.training.log import Log, Screen
from gancompress.training.memory import Updates, foresee, parts_again
from gancompress.training.participants import Participants, gather
from gancompress.training.prefetch import AheadBatches, workers_for
from gancompress.training.reconstructed import told
from gancompress.training.recovery import Recovery
from gancompress.training.run_files import DATA
from gancompress.training.run_folder import RunFolder
from gancompress.training.same_run import check_same_run
from gancompress.training.samples import Range, save_preview
from gancompress.training.saves import Saves
from gancompress.training.signals import Stop
from gancompress.training.start import (
    TrainResult,
    begin_or_go_on,
    check_same_length,
    lr_factor,
    record_of,
    run_lengths,
)
from gancompress.training.steps import Figures, Steps
from gancompress.training.suited import suited
from gancompress.training.thread_watch import ThreadWatch
from gancompress.training.train_state import TrainState
from gancompress.training.width_search import search_widths


def train(
    recipe: Recipe,
    *,
    generator: nn.Module,
    discriminator: Given | None = None,
    teacher: nn.Module | None = None,
    dataset: Any = None,
    sampler: InputSampler | None = None,
    task: Task | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    device: str | torch.device = "cpu",
    max_steps: int | None = None,
    screen: Screen | None = None,
    threads: ThreadWatch | None = None,
    callbacks: Sequence[Callback] = (),
    workers: int | None = None,
) -> TrainResult:
    """Train, prune or distil ``generator`` by ``recipe``; it is worked on in place.

    Everything random is a function of (recipe.seed, step), so a resumed run goes on bit for bit on
    the same kind of CPU with as many threads. Where `torch.distributed` runs, every rank calls this
    alike, and they train one network together (docs/scale.md); rank 0 alone writes.

    Args:
        recipe: from `load_recipe`.
        generator: with trained weights, unless ``recipe.kind`` is train.
        discriminator: the teacher's; worked on in place as well. Several, as a list or by name,
            judge together (`JointDiscriminator`). Without one, and without ``discriminator.policy``
            fresh, only the distillers teach.
        teacher: frozen original; default: a copy of ``generator`` as given.
        dataset: real images, ours, torch's or Hugging Face's (see `gancompress.data.adapters`);
            without, the teacher's samples stand in (data-free).
        sampler: how inputs are drawn; default: ``generator.sample_inputs``.
        task: where inputs and wanted outputs come from, in place of ``sampler`` and ``dataset``.
        out: run folder, made if absent; ``None`` writes nothing.
        resume: ``"auto"``: from the newest good checkpoint in ``out``, if any; or a path of one.
        device: where to compute.
        max_steps: shorten the run to so many steps in all, pruning and fine-tuning in proportion.
        screen: shows progress; default: plain lines on stderr.
        threads: changes the number of torch's threads when other programs hold cores.
        callbacks: called with everything that happens (`Happening`); what one raises ends the run.
        workers: processes that prepare batches, none of which changes the run; default: see
            `workers_for`.

    Raises:
        ConfigError: the recipe and what is given do not go together, or ``out`` holds another run.
        DataError: networks, inputs and images do not fit (before step 0).
        TargetError: the target is out of reach (before step 0), or the cut is refused.
        CheckpointError: there is a checkpoint to resume from, and none that is good.
        DivergedError: losses stay non-finite after rolling back.
        StorageError: nothing can be written.
        OutOfMemoryError: memory does not do for one sample of the batch at a time.
        RanksError: another rank is gone, or they drifted apart.
    """
    steps, finetune = run_lengths(recipe, max_steps)
    total, every = steps + finetune, recipe.checkpoint_every
    device = torch.device(device)
    discriminator = joined(discriminator)
    run, log = record_of(out, resume, screen, callbacks)
    check_plugins(recipe)
    check_loggers(recipe.log)
    task = task_for(recipe, generator, task, sampler, dataset)
    given: Any = {"generator": generator, "discriminator": discriminator, "teacher": teacher}
    recipe, left_out = suited(recipe, task, generator, teacher, total)
    check_same_run(recipe, task, given, device, {"steps": total, "resume": resume is not None})
    earlier = None if run is None or resume is None else recorded(run.path)
    people = gather(recipe, task, **given, device=device, earlier=earlier)
    arithmetic, companions = people.arithmetic, people.companions

    with contextlib.ExitStack() as stack:
        stack.callback(people.release)
        # Start, or go on.
        found = begin_or_go_on(recipe, run, resume, arithmetic, log, stack)
        say_start(recipe, task, people, run, log, left_out)
        state = start_state(recipe, task, people, found, total, log)
        take_first_(state.tensors(), "the weights to begin with")
        if found is None and search_widths(recipe, task, people.teacher, state, run, log):
            cut_now(state, log, people.after_cuts)
        ahead = prepared_ahead(recipe, task, device, workers, stack)
        made = Steps(recipe, task, people.teacher, device, arithmetic, people.matching, ahead)
        recovery, guard = Recovery(state.snapshot(total)), BufferGuard(*state.networks())
        update = Updates(made, recovery, log)
        saves = Saves(run and run.checkpoints, log)
        stack.enter_context(surroundings(recipe, device))
        stop = stack.enter_context(Stop())

        while state.step < total and stop.requested is None:
            # Randomness and learning rates of this step; a rollback changes both.
            torch.manual_seed(step_seed(recipe, state))
            factor = lr_factor(state.step / total, recipe.lr_decay)
            state.set_learning_rates(recipe, factor * 0.5**state.rollbacks)

            # The two updates. What is not finite leaves no trace.
            progress, figures = min(state.step / max(steps, 1), 1.0), Figures()
            companions.before(Moment(state, progress, log, figures))
            guard.renew()
            sound = update.update(state, figures)
            if sound is None or not recovery.goes_on(sound, guard, state, log):
                continue
            state.step += 1

            # Masks: kill down to what the schedule allows now. Then the moving average, which
            # follows the masks. Then, at its events, live shrink.
            progress = min(state.step / steps, 1.0)
            companions.after(Moment(state, progress, log, figures, sound))
            held = held_progress(recipe, progress, steps)
            state.advance(min(companions.pace(progress), held))
            if sound:
                state.average(recipe.ema.decay if state.step > recipe.ema.start else 0.0)
            if was_cut := shrink_if_due(recipe, state, steps, log, people.after_cuts):
                guard = BufferGuard(*state.networks())

            # Report, and save. A rollback must not cross a cut.
            last = stop.agree() or state.step == total
            report(recipe, task, people.shown, state, run, log, figures, total=total, last=last)
            if threads is not None and (change := threads.step()):
                log.event("threads", change, step=state.step, threads=threads.threads)
            if last or was_cut or (every and state.step % every == 0):
                align(state.tensors())
                recovery.good = state.snapshot(total)
                saves.save(recovery.good, last=last)

    if total and state.step >= total:
        recovery.check_end(state, total)
    return hand_over(state, run, log, 0 if state.step >= total else stop.exit_code)


def step_seed(recipe: Recipe, state: TrainState) -> int:
    """Return the seed of what networks draw in a step (dropout, noise): each rank its own."""
    own = [rank()] if rank() else []
    return derived_seed(recipe.seed, "torch", state.step, state.rollbacks, *own)


def task_for(
    recipe: Recipe,
    generator: nn.Module,
    task: Task | None,
    sampler: InputSampler | None,
    dataset: Any,
) -> Task:
    """Return ``task``, or `Noise` of ``sampler`` and ``dataset``.

    Raises:
        ConfigError: both are given, or nothing says how inputs are drawn.
        DataError: samples of the data are no images, or end early.
    """
    if task is None:
        return Noise(sampler or InputSampler.of(generator), readable(dataset), recipe.seed)
    if sampler is not None or dataset is not None:
        raise ConfigError("a task brings inputs and data of its own: leave sampler and dataset out")
    return task


def prepared_ahead(
    recipe: Recipe,
    task: Task,
    device: torch.device,
    workers: int | None,
    stack: contextlib.ExitStack,
) -> AheadBatches | None:
    """Return who prepares batches in other processes; ``None`` where that would not help."""
    count = workers_for(task, device, workers)
    if not count:
        return None
    ahead = AheadBatches(task, recipe, workers=count)
    stack.callback(ahead.close)
    return ahead


@contextlib.contextmanager
def surroundings(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Keep the caller's random numbers as they are, and multiply as the recipe says."""
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        tensor_cores(recipe.tf32),
    ):
        yield


def hand_over(state: TrainState, run: RunFolder | None, log: Log, exit_code: int) -> TrainResult:
    """Return the average in eval mode; a complete run (exit code 0) leaves it in its folder."""
    if exit_code == 0 and run is not None:
        save(run.model, state.ema, plan=state.plan, replace=True)
        run.seal()
    return TrainResult(
        state.ema.eval(), state.plan, log.history, run and run.path, exit_code, state.verified
    )


def say_start(
    recipe: Recipe,
    task: Task,
    people: Participants,
    run: RunFolder | None,
    log: Log,
    left_out: str | None = None,
) -> None:
    """Tell, before the first step, what was decided, and keep how the data was read."""
    data: Any = getattr(task, "dataset", None) or getattr(task, "data", None)
    data = getattr(data, "data", data)  # the wanted outputs, of a task that joins them to inputs
    # Asked of its class: of rectangles the value itself is an error.
    if run is not None and "resolution" in dir(data):
        run.write_json(DATA, described(data))
    log.event(RECORD, people.arithmetic.describe(), **people.arithmetic.record())
    if people.masked is not None:
        widths = people.masked.widths()
        channels = f"{sum(widths.values()):,} channels in {len(widths)} groups can go"
        log.event("groups", channels, widths=widths)
    if left_out is not None:
        text = f"least squares is left out: {left_out} (least_squares=always insists)"
        log.event("least_squares", text)
    if people.report is not None:
        log.event("reconstruct", told(people.report))
    for remark in people.remarks:
        log.event("loss", remark)
    if people.discriminator is None and recipe.adversarial.weight > 0:
        log.event("no_discriminator", "no discriminator: the distillers alone teach")


def start_state(
    recipe: Recipe,
    task: Task,
    people: Participants,
    found: Checkpoint | None,
    total: int,
    log: Log,
) -> TrainState:
    """Return the state to begin with, or to go on with: shapes first, then tensors.

    Raises:
        ConfigError: the checkpoint is of a run of another length.
        CheckpointError: it is of other networks.
        OutOfMemoryError: a step is sure not to fit into memory.
    """
    masked = people.masked
    if found is not None:
        check_same_length(found, total)
    if found is not None and masked is not None:
        masked.load_state_dict(found.state["masks"], copies=[people.ema])
        if masked.history is not None and people.first_graph is not None:
            people.distillation.shrink(partial(people.first_graph.kept, masked.history))
    state = TrainState.gather(
        recipe,
        people.student,
        people.ema,
        people.discriminator,
        masked=masked,
        distillation=people.distillation,
        narrowing=start_narrowing(
            recipe, people.discriminator, people.teacher, task, people.example, log
        ),
        regularisers=people.regularisers,
    )
    state.plan, state.verified = people.plan, people.verified
    state.companions = people.companions
    if found is not None:
        state.resume(found.step, found.parts, found.state)
        state.parts_of_batch = parts_again(recipe, state.parts_of_batch)
        log.resume(state.step)
        log.event("resume", f"resuming at step {state.step} of {total}", step=state.step)
    else:
        foresee(recipe, task, people, state, log)
    return state


def report(
    recipe: Recipe,
    task: Task,
    shown: Range,
    state: TrainState,
    run: RunFolder | None,
    log: Log,
    figures: Figures,
    *,
    total: int,
    last: bool,
) -> None:
    """Log the figures of a step and write a grid of samples, each when it is due."""
    if state.step % recipe.log_every == 0 or last:
        means = [v.detach().float().mean() for v in figures.values()]
        mean_(means, "figures")
        values = dict(zip(figures, torch.stack(means).tolist() if means else [], strict=True))
        log.figures(state.step, total, recipe.batch, values | state.measure_size(), state.widths)
    if run is not None and recipe.sample_every and (last or state.step % recipe.sample_every == 0):
        device = next(state.ema.parameters()).device
        stem = run.samples / f"step_{state.step:06d}"
        if file := save_preview(state.ema, task, device, stem, shown):
            kind = "sound" if file.suffix == ".wav" else "picture"
            log.shown(kind, state.step, "samples", file)
