"""``gancompress prune``, ``train`` and ``distill``: from words to a run, and its closing table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.text import Text
from torch import nn

from gancompress.commands.console import note, quiet, stderr
from gancompress.commands.dry_run import predict, show_prediction
from gancompress.commands.progress import ProgressLine
from gancompress.commands.recipes import shipped
from gancompress.commands.resolve.adapt_recipe import adapted
from gancompress.commands.resolve.builders import load_weights
from gancompress.commands.resolve.participants import dataset_of, discriminator_of, start_of
from gancompress.commands.resolve.subject import Subject, in_its_form, read_record, resolved_device
from gancompress.commands.resolve.try_forward import probe
from gancompress.commands.results import Finished, close
from gancompress.commands.run_start import check_same, new_folder, unfinished, write_record
from gancompress.data.arrays import Dataset, class_names_of
from gancompress.errors import ConfigError
from gancompress.modules.copying import duplicate
from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.training.check_fit import check_fit
from gancompress.training.loop import train
from gancompress.training.run_folder import CONFIG


def work(
    *,
    kind: str,
    what: str | None,
    overrides: Sequence[str],
    recipe: str,
    model: str | None,
    weights: str | None,
    discriminator: str | None,
    discriminator_weights: str | None,
    data: str | None,
    inputs: Sequence[str] | None,
    out: Path | None,
    resume: str | None,
    init_from: str | None,
    device: str,
    max_steps: int | None,
    dry_run: bool,
    json: bool,
    form: str = "module",
) -> int:
    """Run ``recipe`` and return the exit code.

    Raises:
        GancompressError: anything the user can put right.
    """
    folder = None if resume in (None, "auto") else Path(str(resume))
    if folder is not None:
        if overrides or out is not None:
            raise ConfigError(f"--resume {folder} keeps its recipe and folder; leave the rest out")
        found = read_record(folder)
        # Files of data and weights are taken from the record; code has to be typed again.
        recipe, inputs, data = str(folder / CONFIG), inputs or found["input"], found.get("data")
        weights, init_from = found.get("weights"), found.get("init_from")
        what, max_steps = what or found.get("folder"), max_steps or found.get("max_steps")
        form = found.get("form", form)
    chosen = load_recipe(recipe, overrides)
    if chosen.kind != kind:
        raise ConfigError(
            f"recipe {chosen.name!r} is of kind {chosen.kind}: "
            f"gancompress {chosen.kind} --recipe {recipe}"
        )
    torch.manual_seed(chosen.seed)
    home = resolved_device(device)
    subject = start_of(chosen, what, model, weights, inputs)
    if init_from is not None:
        load_weights(subject.generator, init_from)
    judge = discriminator_of(subject, what, discriminator, discriminator_weights)
    if form != "module":
        subject = in_its_form(subject, form)
    dataset = dataset_of(subject, chosen, data)
    probe(subject)
    if recipe in shipped() and not any(word.startswith("distill") for word in overrides):
        chosen = adapted(chosen, subject, judge)
    check_fit(subject.generator, subject.sampler, discriminator=judge, dataset=dataset)
    if dry_run:
        show_prediction(subject, chosen, kind=kind, json=json)
        return 0

    record = {
        **subject.origin,
        "data": data,
        "weights": weights,
        "init_from": init_from,
        "discriminator": discriminator,
        "max_steps": max_steps,
        "classes": None if dataset is None else list(class_names_of(dataset) or ()) or None,
    }
    if folder is not None:
        check_same(folder, chosen, record)
    elif resume == "auto":
        folder = unfinished(chosen, record, out)
        note(f"resuming {folder}" if folder else "nothing to resume: a new run")
    going_on = folder is not None
    if folder is None:
        plan_line(subject, chosen)
        folder = new_folder(out, f"{chosen.name}-{subject.label}")
        write_record(folder, record)
    header(chosen, subject, judge, dataset, home, folder)
    teacher = None if kind == "train" else duplicate(subject.generator)
    started = time.monotonic()
    try:
        with ProgressLine() as screen:
            result = train(
                chosen,
                generator=subject.generator,
                discriminator=judge,
                dataset=dataset,
                sampler=subject.sampler,
                out=folder,
                resume="auto" if going_on else None,
                device=home,
                max_steps=max_steps,
                screen=screen,
            )
    except Exception:
        note(f"what happened until then is in {folder / 'events.jsonl'}")
        raise
    if result.exit_code:
        code = "".join(
            f" --{name} {spec}"
            for name, spec in (("model", subject.spec), ("discriminator", discriminator or ""))
            if ":" in spec
        )
        note(f"stopped after a checkpoint. Go on with: gancompress {kind} --resume {folder}{code}")
        return result.exit_code
    done = Finished(
        kind=kind,
        recipe=chosen,
        teacher=teacher,
        student=replace(subject, generator=result.generator, run=folder),
        run=folder,
        steps=int(result.history[-1]["step"]) if result.history else 0,
        seconds=time.monotonic() - started,
        verified=result.verified,
        device=str(home),
    )
    close(done, json=json)
    return 0


def plan_line(subject: Subject, recipe: Recipe) -> None:
    """Say on stderr what the target leads to.

    Raises:
        TargetError: it is out of reach; nothing has been written then.
    """
    if recipe.target is None:
        return
    from gancompress.reporting.tables import si

    found = predict(subject, recipe)
    old, new = found.cost_before, found.cost_after
    note(
        f"plan: {si(old.params)} -> {si(new.params)} parameters, {si(old.macs)} -> {si(new.macs)} "
        f"MACs an image, {len(found.before)} groups"
    )


def header(
    recipe: Recipe,
    subject: Subject,
    judge: nn.Module | None,
    dataset: Dataset | None,
    device: torch.device,
    folder: Path,
) -> None:
    """Say on stderr, once, what is about to run."""
    if quiet():
        return
    images = "the teacher's images" if dataset is None else f"{len(dataset):,} images"
    parts = (
        recipe.target or "",
        images,
        "no discriminator" if judge is None else "discriminator",
        str(device),
        recipe.precision,
        f"seed {recipe.seed}",
    )
    console = stderr()
    title = f"{recipe.name} on {subject.spec} in {folder}"
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(Text("  ".join(p for p in parts if p)), soft_wrap=True)
