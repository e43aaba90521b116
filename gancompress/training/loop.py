"""The training loop, read top to bottom: for teachers, pruning, fine-tuning and distilling."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.arrays import Dataset, described
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError, DivergedError, StorageError
from gancompress.modules.copying import duplicate
from gancompress.modules.discriminator import autocast, judge
from gancompress.recipes.schema import Recipe
from gancompress.saving import save
from gancompress.training.augment import augment
from gancompress.training.check_fit import check_fit
from gancompress.training.checkpoint import Checkpoint, save_checkpoint
from gancompress.training.discriminator_shrink import start_narrowing
from gancompress.training.distillation import Lessons
from gancompress.training.log import Log, PlainScreen, Screen, describe_cut
from gancompress.training.losses import ADVERSARIAL
from gancompress.training.order import derived_seed, stream
from gancompress.training.recovery import BufferGuard, diverged, finite_step
from gancompress.training.run_folder import RunFolder
from gancompress.training.samples import sample_images, save_grid
from gancompress.training.signals import Stop
from gancompress.training.start import (
    TrainResult,
    check_recipe,
    check_same_length,
    lr_factor,
    place,
    run_lengths,
    starting_point,
)
from gancompress.training.student import fresh, masked_student, narrow_student
from gancompress.training.task import Reals
from gancompress.training.train_state import Cast, Parts, clone_parts, finite_parts
from gancompress.wrapping import Masked

MAX_SKIPS = 3  # non-finite steps in a row before rolling back
MAX_ROLLBACKS = 2
MAX_FAILED_SAVES = 3


def train(
    recipe: Recipe,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None = None,
    teacher: nn.Module | None = None,
    dataset: Dataset | None = None,
    sampler: InputSampler | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    device: str | torch.device = "cpu",
    max_steps: int | None = None,
    screen: Screen | None = None,
) -> TrainResult:
    """Train, prune or distil ``generator`` by ``recipe``; it is worked on in place.

    Everything random is a function of (recipe.seed, step), so a resumed run goes on as if it had
    never stopped: bit for bit on the same kind of CPU with the same number of threads.

    Args:
        recipe: from `load_recipe`.
        generator: with trained weights, unless ``recipe.kind`` is train.
        discriminator: the teacher's; worked on in place as well, and made narrower where the recipe
            says so. Without one only the distillers teach.
        teacher: frozen original; default: a copy of ``generator`` as given.
        dataset: real images; without, the teacher's samples stand in (data-free).
        sampler: how inputs are drawn; default: ``generator.sample_inputs``.
        out: run folder, made if absent; ``None`` writes nothing.
        resume: ``"auto"`` goes on from the newest good checkpoint in ``out`` if there is one; a
            path goes on from that checkpoint folder.
        device: where to compute.
        max_steps: shorten the run to so many steps in all, pruning and fine-tuning in proportion.
        screen: shows progress; default: plain lines on stderr.

    Raises:
        ConfigError: the recipe and what is given do not go together, or ``out`` holds another run.
        DataError: networks, inputs and images do not fit (before step 0).
        TargetError: the target is out of reach (before step 0), or the cut is refused.
        CheckpointError: there is a checkpoint to resume from, and none that is good.
        DivergedError: losses stay non-finite after rolling back.
        StorageError: nothing can be written.
    """
    steps, finetune = run_lengths(recipe, max_steps)
    total = steps + finetune
    device = torch.device(device)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    run = RunFolder(Path(out)) if out is not None else None
    log = Log(run, PlainScreen() if screen is None else screen)
    if resume is not None and run is None:
        raise ConfigError("resume needs the run folder: give out=...")

    # Who takes part, and whether they fit: one probe batch through all of them.
    check_recipe(recipe, discriminator, dataset)
    sampler = InputSampler.of(generator) if sampler is None else sampler
    place(generator, device, layout)
    if discriminator is not None:
        place(discriminator, device, layout)
    example = check_fit(
        generator, sampler, discriminator=discriminator, dataset=dataset, augment=recipe.augment
    )
    if recipe.kind != "train":
        if teacher is None or teacher is generator:
            teacher = duplicate(generator)
        place(teacher, device, layout).requires_grad_(False).eval()
        check_fit(teacher, sampler, dataset=dataset)
    # Whose samples stand in for real images, and whom the distillers listen to.
    elder = generator if teacher is None else teacher

    # The student: the generator itself under masks, or a narrower one of fixed shape.
    student, plan, verified = generator, None, None
    if recipe.kind == "distill" and recipe.target is not None:
        assert teacher is not None
        student, plan, verified = narrow_student(teacher, example, recipe)
        if recipe.student.init == "scratch":
            student = fresh(student, recipe.seed)
    G = place(student, device, layout).requires_grad_(True)
    G.train()
    masked: Masked | None = None
    if recipe.kind == "prune":
        masked = masked_student(G, example, recipe)
    first_graph = None if masked is None else masked.graph
    ema = duplicate(G)
    lessons = Lessons(
        recipe.distill,
        teacher=elder,
        student=G,
        discriminator=discriminator,
        example=example,
    ).to(device)
    # The distillers have their copy of the teacher's discriminator; this one learns.
    policy = recipe.discriminator.policy
    if discriminator is not None and policy == "scratch":
        discriminator = fresh(discriminator, recipe.seed)
    D = discriminator if recipe.adversarial.weight > 0 else None
    if D is not None:
        D.train(policy != "frozen")
    learns_D = D is not None and policy != "frozen"
    # Where the distillers alone teach, nobody would look at the rest of a batch.
    taught = math.ceil((1.0 if D is None else recipe.distill_share) * recipe.batch)
    adversarial = ADVERSARIAL.get(recipe.adversarial.loss)()
    arithmetic = partial(autocast, device, recipe.precision)
    reals = Reals(recipe, dataset, elder, sampler, arithmetic, device, layout)

    with contextlib.ExitStack() as stack:
        stack.callback(lessons.remove)
        # Start, or go on: the shape of the saved networks first, then their tensors.
        step = skips = rollbacks = failed_saves = 0
        frozen_masks: dict[str, Any] | None = None
        size: dict[str, int] = {}
        found: Checkpoint | None = None
        if run is not None:
            run.begin(recipe, resume=resume is not None)
            stack.push(run.leave)
            if dataset is not None:
                run.write_json("data.json", described(dataset))
            found = starting_point(run, resume, log)
        if discriminator is None and recipe.adversarial.weight > 0:
            log.event("no_discriminator", "no discriminator: the distillers alone teach")
        if found is not None and masked is not None:
            masked.load_state_dict(found.state["masks"], copies=[ema])
            if masked.history is not None and first_graph is not None:
                lessons.shrink(partial(first_graph.kept, masked.history))
        narrowing = start_narrowing(recipe, D, elder, example, sampler.labels(example), log)
        cast = Cast.gather(recipe, G, ema, D, masked=masked, lessons=lessons, narrowing=narrowing)
        if found is not None:
            check_same_length(found, total)
            step, rollbacks, size = found.step, found.state["rollbacks"], found.state["size"]
            verified = found.state["verified"] or verified
            if masked is not None and found.state["plain"]:
                plan, frozen_masks = masked.history, found.state["masks"]
                cast.unmask()
            cast.narrow_again(found.state)
            cast.restore(found.parts)
            cast.mute()
            log.resume(step)
            log.event("resume", f"resuming at step {step} of {total}", step=step)

        def snapshot() -> tuple[int, Parts, dict[str, Any]]:
            masks = frozen_masks if cast.masked is None else cast.masked.state_dict()
            return (
                step,
                clone_parts(cast.parts()),
                {
                    "total": total,
                    "rollbacks": rollbacks,
                    "plain": cast.masked is None,
                    "verified": verified,
                    "masks": masks,
                    "discriminator": narrowing and narrowing.state(),
                    "size": size,
                },
            )

        good = snapshot()
        shrinks = [event for event in recipe.shrink.events if masked and event * steps > step]
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stop = stack.enter_context(Stop())
        while step < total and stop.requested is None:
            # Randomness and learning rates of this step; a rollback changes both.
            torch.manual_seed(derived_seed(recipe.seed, "torch", step, rollbacks))
            factor = lr_factor(step / total, recipe.lr_decay) * 0.5**rollbacks
            cast.set_learning_rates(recipe, factor)
            guard = BufferGuard(G, *([] if D is None else [D]))
            figures: dict[str, Tensor] = {}
            sound = True

            # Discriminator steps. The last one keeps the graph of its fake images: one generator
            # forward then serves the generator step too.
            rounds = recipe.discriminator.steps if learns_D else 1
            rng, inputs, y, fake = torch.Generator(), example, None, torch.empty(0)
            for turn in range(rounds):
                number = step * rounds + turn
                rng = stream(recipe.seed, "step", number, rollbacks)
                inputs = tuple(part.to(device) for part in sampler(recipe.batch, rng))
                y = sampler.labels(inputs)
                with arithmetic(), torch.set_grad_enabled(turn == rounds - 1):
                    fake = G(*inputs)
                if D is None or not learns_D:
                    continue
                real, y_real = reals.batch(number, rng)
                D.requires_grad_(True)
                with arithmetic():
                    real_logits = judge(D, augment(real, recipe.augment, rng), y_real)
                    fake_logits = judge(D, augment(fake.detach(), recipe.augment, rng), y)
                d_loss = adversarial.discriminator(real_logits, fake_logits)
                cast.optimizers["discriminator"].zero_grad(set_to_none=True)
                d_loss.backward()
                sound = sound and finite_step(d_loss, D.parameters())
                if not sound:
                    break
                cast.optimizers["discriminator"].step()
                figures |= {"d_loss": d_loss, "real": real_logits, "fake": fake_logits}

            # Generator step: adversarial, distillers and penalty together.
            if sound:
                g_loss = torch.zeros((), device=device)
                if D is not None:
                    D.requires_grad_(False)
                    with arithmetic():
                        logits = judge(D, augment(fake, recipe.augment, rng), y)
                    figures["g_loss"] = adversarial.generator(logits)
                    g_loss = g_loss + recipe.adversarial.weight * figures["g_loss"]
                if len(lessons):
                    with arithmetic():
                        with torch.no_grad():
                            model = elder(*(part[:taught] for part in inputs))
                        figures["distill"] = lessons.loss(
                            inputs=inputs, labels=y, student_images=fake, teacher_images=model
                        )
                    g_loss = g_loss + figures["distill"]
                if cast.masked is not None and recipe.penalty.weight > 0:
                    figures["penalty"] = cast.masked.penalty()
                    g_loss = g_loss + recipe.penalty.weight * figures["penalty"]
                cast.zero_grad()
                g_loss.backward()
                sound = finite_step(g_loss, cast.learners())
                if sound:
                    cast.step()

            # Non-finite: buffers go back, and nothing (more) is stepped. After several in a row,
            # roll back to the last good state, with other noise and half the learning rate.
            skips = 0 if sound else skips + 1
            if not sound:
                guard.restore()
                log.event("skip", f"step {step}: a loss or gradient is not finite", step=step)
            if skips == MAX_SKIPS:
                if rollbacks == MAX_ROLLBACKS:
                    raise diverged(step, rollbacks)
                step, skips, rollbacks = good[0], 0, rollbacks + 1
                cast.restore(good[1])
                if cast.masked is not None:
                    cast.masked.progress = float(good[2]["masks"]["progress"])
                cast.mute()
                log.resume(step)
                log.event("rollback", f"rolled back to step {step}", step=step)
                continue

            # Masks: kill down to what the schedule allows now. Then the moving average, which
            # follows the masks.
            step += 1
            if cast.masked is not None and cast.masked.advance(min(step / steps, 1.0)):
                cast.mute()
            if sound:
                cast.average(recipe.ema.decay if step > recipe.ema.start else 0.0)

            # Live shrink at its events; the last cut is verified first, and takes the masks off.
            was_cut = False
            if cast.masked is not None and (
                step >= steps or (shrinks and step >= shrinks[0] * steps)
            ):
                shrinks = [event for event in shrinks if event * steps > step]
                if step >= steps:
                    cast.masked.prune()
                    verified = cast.verification()
                was_cut, size = cast.shrink(), cast.size()
                if was_cut:
                    log.event("shrink", describe_cut(step, size), step=step, **size)
                if step >= steps:
                    plan, frozen_masks = cast.masked.history, cast.masked.state_dict()
                    cast.unmask()
                    log.event("unmask", f"step {step}: the masks are gone", step=step)
                    was_cut = True

            # Report.
            last = step == total or stop.requested is not None
            if step % recipe.log_every == 0 or last:
                values = {k: v.detach().float().mean().item() for k, v in figures.items()}
                size = size if cast.masked is None else cast.size()
                log.figures(step, total, recipe.batch, values | size)
            shown = recipe.sample_every and (last or step % recipe.sample_every == 0)
            if run is not None and shown:
                grid = sample_images(ema, sampler, recipe.seed, device)
                save_grid(grid, run.samples / f"step_{step:06d}.png", columns=10)

            # Checkpoint, of finite numbers only. A rollback must not cross a cut.
            due = recipe.checkpoint_every and step % recipe.checkpoint_every == 0
            if last or due or was_cut:
                good = snapshot()
                if not finite_parts(good[1]):
                    raise DivergedError(f"weights are not finite at step {step}")
                if run is not None:
                    try:
                        save_checkpoint(run.checkpoints, *good)
                        failed_saves = 0
                    except StorageError as error:
                        failed_saves += 1
                        log.event("save_failed", str(error), step=step)
                        if last or failed_saves == MAX_FAILED_SAVES:
                            raise

    complete = step >= total
    if complete and skips == total:
        raise diverged(step, rollbacks)
    # Hand over the average.
    if D is not None:
        D.requires_grad_(True)
    ema.requires_grad_(True).eval()
    if run is not None and complete:
        save(run.model, ema, plan=plan, replace=True)
    exit_code = 0 if complete else stop.exit_code
    return TrainResult(ema, plan, log.history, run and run.path, exit_code, verified)
