"""The steps of ``prune``, ``train`` and ``distill``: participants, checks, the run, its results."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from torch import nn

from gancompress.commands.console import begin_notes, note, quiet, said, set_quiet, stderr
from gancompress.commands.dry_run import Prediction, predict, show_prediction
from gancompress.commands.finished import Finished
from gancompress.commands.progress import ProgressLine
from gancompress.commands.recipes import shipped
from gancompress.commands.request import Request, continued, go_on, recipe_of, refuse_to_forget
from gancompress.commands.resolve.adapt_recipe import adapted
from gancompress.commands.resolve.feature_choice import features_for
from gancompress.commands.resolve.participants import Participants, each_its_own, gather
from gancompress.commands.resolve.run_task import in_words_of
from gancompress.commands.resolve.subject import resolved_device
from gancompress.commands.resolve.try_forward import probe
from gancompress.commands.results import close
from gancompress.commands.run_start import check_same, new_folder, unfinished
from gancompress.errors import ConfigError, DataError
from gancompress.modules.copying import duplicate
from gancompress.modules.discriminator import DiscriminatorCall, describe_call, use_call
from gancompress.modules.ranks import rank, world
from gancompress.modules.undisturbed import look
from gancompress.recipes.parts import Named
from gancompress.recipes.schema import Recipe
from gancompress.tasks.check_fit import stood_in_for
from gancompress.tasks.noise import Noise
from gancompress.training.arithmetic import check_device
from gancompress.training.callbacks import check_loggers
from gancompress.training.check_loss import check_rates, loss_remark
from gancompress.training.distributed import by_first, joined_ranks, restarted
from gancompress.training.loop import train
from gancompress.training.run_files import EVENTS, PREDICTION, is_unstarted
from gancompress.training.shares import check_shares
from gancompress.training.signals import preemptible
from gancompress.training.start import TrainResult, check_recipe
from gancompress.training.thread_watch import watch_threads


def run(request: Request) -> int:
    """Do what ``request`` asks and return the exit code.

    Raises:
        GancompressError: anything the user can put right.
    """
    with preemptible():
        return _run(request)


def _run(request: Request) -> int:
    begin_notes()
    with joined_ranks(request.device, resolved_device) as device:
        done = trained(request, device)
    # One rank measures, when the others are gone.
    if isinstance(done, Finished):
        close(done, json=request.json)
        return 0
    return done


def trained(request: Request, device: torch.device) -> Finished | int:
    """Make the run of ``request``, and return what is to be closed; or an exit code.

    Raises:
        GancompressError: anything the user can put right.
    """
    if rank() > 0:
        set_quiet(True)
    if request.resume is None and restarted():
        request = replace(request, resume="auto")
    refuse_to_forget(request)
    request = continued(request)
    recipe = recipe_of(request)
    check_loggers(recipe.log)
    torch.manual_seed(recipe.seed)
    who = gather(request, recipe)
    request, recipe = who.request, who.recipe
    recipe = checked(request, recipe, who)
    check_shares(recipe.batch, world(), recipe.accumulate)
    check_device(recipe, device)
    features = features_for(request.features, who.task, who.subject.generator, device)
    if request.dry_run:
        if rank() == 0:
            show_prediction(
                who.subject, recipe, kind=request.kind, json=request.json, device=str(device)
            )
        elif recipe.target is not None:
            predict(who.subject, recipe, str(device))  # ranks choose together
        return 0
    folder, going_on = place_of(request, recipe, who)
    header(recipe, who, device, folder)
    teacher = None if request.kind == "train" else duplicate(who.subject.generator)
    started = time.monotonic()
    result = carried_out(request, recipe, who, device, folder, going_on=going_on)
    if result.exit_code:
        record = request.record(who.subject) | {"features": request.features}
        command = go_on(request.kind, folder, record)
        note(f"stopped after a checkpoint. Go on with: {command}")
        return result.exit_code
    if rank() > 0:
        return 0
    return Finished(
        kind=request.kind,
        recipe=recipe,
        teacher=teacher,
        student=replace(who.subject, generator=result.generator, run=folder),
        run=folder,
        steps=int(result.history[-1]["step"]) if result.history else 0,
        seconds=time.monotonic() - started,
        verified=result.verified,
        device=str(device),
        task=who.task,
        notes=tuple(said()),
        features=features,
    )


def checked(request: Request, recipe: Recipe, who: Participants) -> Recipe:
    """Run everything once before any work, and return the recipe adapted to who takes part.

    Raises:
        ConfigError: the recipe and the participants do not go together.
        DataError: a forward pass fails, or shapes, ranges or classes do not fit.
    """
    subject, discriminator, task = who.subject, who.discriminator, who.task
    probe(subject)
    if discriminator is not None:
        said = request.discriminator_call
        for member, text in each_its_own(discriminator, said, "--discriminator-call"):
            use_call(member, DiscriminatorCall.parse(in_words_of(task, text)))
    check_rates(recipe, task)
    typed = any(word.startswith("distill") for word in request.overrides)
    example = task.check(subject.generator, discriminator, ())
    if request.recipe in shipped() and not typed:
        image = task.output(look(subject.generator, example.inputs, example.kwargs))
        shown = task.shown(example, image)
        recipe = adapted(recipe, subject, discriminator, shown)
    task.check(subject.generator, discriminator, recipe.augment)
    check_recipe(recipe, discriminator, has_real=task.has_real)  # before a folder is made
    if discriminator is not None:
        # What it says is told by the run itself; a loss that cannot be read is refused here.
        if recipe.discriminator.policy != "fresh":
            loss_remark(recipe, discriminator, subject.generator, task, example)
        made = task.output(look(subject.generator, example.inputs, example.kwargs))
        shown = task.shown(example, made)
        how = describe_call(discriminator, shown.output, shown.labels, shown.condition)
        note(f"discriminator: called as {how}")
    if recipe.task is None and (not isinstance(task, Noise) or task.rate is not None):
        recipe = recipe.model_copy(update={"task": Named(name=task.name)})
    if isinstance(task, Noise) and (what := stood_in_for(subject.generator, task.sampler)):
        note(
            f"warning: {subject.spec} reads {what}s and is given noise that its class draws in "
            "their place: what is learnt is learnt on that. --input 'x=images(FOLDER)' gives it "
            "pictures"
        )
    if who.dataset is not None and not who.data_is_read(recipe):
        note(f"the images of --data are not read: {who.why_not_read(recipe)}")
    return recipe


def place_of(request: Request, recipe: Recipe, who: Participants) -> tuple[Path, bool]:
    """Return the run folder, and whether the run in it goes on.

    Raises:
        ConfigError: it holds another run, or a finished one.
        TargetError: the target is out of reach; nothing has been written then.
        StorageError: it cannot be made.
    """
    record = request.record(who.subject) | {"classes": who.class_names()}
    if request.kind != "train":  # there all that was learnt is in the checkpoint
        record["start"] = who.fingerprints()
    if found := by_first(lambda: earlier_run(request, recipe, record), "the run folder"):
        return Path(found), True
    # Ranks choose together.
    prediction = plan_line(who, recipe, str(resolved_device(request.device)))

    def new() -> str:
        folder = new_folder(request.out, f"{recipe.name}-{who.subject.label}", recipe, record)
        if prediction is not None:
            text = json.dumps(prediction.to_json(), indent=1)
            (folder / PREDICTION).write_text(text, encoding="utf-8")
        return str(folder)

    return Path(by_first(new, "the run folder")), False


def earlier_run(request: Request, recipe: Recipe, record: Mapping[str, Any]) -> str | None:
    """Return the folder of the run that goes on, if one does.

    Raises:
        ConfigError: it is another run, or a finished one.
    """
    if (folder := request.folder) is not None:
        check_same(folder, recipe, record)
        return str(folder)
    if request.resume != "auto":
        return None
    found = unfinished(recipe, record, request.out)
    note(f"resuming {found}" if found else "nothing to resume: a new run")
    return None if found is None else str(found)


def carried_out(
    request: Request,
    recipe: Recipe,
    who: Participants,
    device: torch.device,
    folder: Path,
    *,
    going_on: bool,
) -> TrainResult:
    """Train, with the progress line on the screen.

    Raises:
        GancompressError: whatever ends the run; the log that tells of it is named.
    """
    try:
        with ProgressLine() as screen:
            return train(
                recipe,
                generator=who.subject.generator,
                discriminator=who.discriminator,
                task=who.task,
                out=folder,
                resume="auto" if going_on else None,
                device=device,
                max_steps=request.max_steps,
                screen=screen,
                threads=watch_threads(device),
                workers=request.workers,
            )
    except (ConfigError, DataError):
        if not going_on and world() == 1 and is_unstarted(folder):
            # Nothing was learnt in it: what is wrong with the words is no run.
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception:
        if (folder / EVENTS).is_file():
            note(f"what happened until then is in {folder / EVENTS}")
        raise


def plan_line(who: Participants, recipe: Recipe, device: str) -> Prediction | None:
    """Say on stderr what the target leads to, in size and in time, and return it.

    Raises:
        TargetError: it is out of reach; nothing has been written then.
    """
    if recipe.target is None:
        return None
    from gancompress.reporting.tables import si

    found = predict(who.subject, recipe, device)
    old, new = found.cost_before, found.cost_after
    note(
        f"plan: {si(old.params)} -> {si(new.params)} parameters, {si(old.macs)} -> {si(new.macs)} "
        f"MACs an image, {len(found.before)} groups; {'; '.join(map(str, found.speeds))}"
    )
    for remark in found.remarks:
        note(f"warning: {remark}")
    return found


def header(recipe: Recipe, who: Participants, device: torch.device, folder: Path) -> None:
    """Say on stderr, once, what is about to run."""
    if quiet():
        return
    images = "the teacher's images"
    if who.dataset is not None:
        unread = "" if who.data_is_read(recipe) else " (not read)"
        images = f"{len(who.dataset):,} images{unread}"
    discriminator: nn.Module | None = who.discriminator
    judge = "no discriminator" if discriminator is None else "discriminator"
    if recipe.discriminator.policy == "fresh":
        judge = "fresh discriminator"
    parts = (
        recipe.target or "",
        images,
        judge,
        str(device),
        f"precision {recipe.precision}",
        f"seed {recipe.seed}",
    )
    console = stderr()
    title = f"{recipe.name} on {who.subject.spec} in {folder}"
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(Text("  ".join(p for p in parts if p)), soft_wrap=True)
