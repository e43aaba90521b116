"""What ``eval`` measures on: the task of a run, or one of the data that is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gancompress.commands.console import note
from gancompress.commands.resolve.builders import load_weights
from gancompress.commands.resolve.datasets import DataFlags, open_data
from gancompress.commands.resolve.run_task import task_of
from gancompress.commands.resolve.subject import (
    BIGGAN,
    EMBEDDED,
    Subject,
    original,
    resolve,
    resolved_device,
)
from gancompress.data.named_inputs import in_order
from gancompress.errors import ConfigError
from gancompress.models import load_biggan_folder
from gancompress.modules.fingerprint import fingerprint, same_weights
from gancompress.recipes.load import load_recipe
from gancompress.recipes.networks import discriminators_of
from gancompress.recipes.parts import Named
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import TASKS, Sources, Task
from gancompress.training.run_files import CONFIG

HALF = 0.5


def task_to_measure(
    subject: Subject, data: str | None, flags: DataFlags, name: str | None, *, typed_inputs: bool
) -> tuple[Task, Task]:
    """Return the task to measure distances on, and the one to compare sets on.

    They differ where all of the data is held out, since no training saw any of it: sets are then
    compared in two halves, so that no output meets the real one of its own input.

    Raises:
        ConfigError: the task cannot be made of these sources, or a flag has no meaning without
            ``--data``.
        DataError: the data cannot be read, or does not belong to the inputs.
    """
    if data is None and (typed := flags.record()):
        raise ConfigError(f"--{next(iter(typed))} says how --data is read: give --data")
    recipe = None if subject.run is None else load_recipe(subject.run / CONFIG)
    fresh = data is not None or typed_inputs or name is not None
    if subject.task is not None and not fresh:
        return subject.task, subject.task
    remembered = DataFlags.of(subject.origin.get("data_flags") or {})
    if data is None:
        data, flags = subject.origin.get("data"), remembered
        if data is not None:
            note(f"no --data: that of {subject.run}, {data}")
    elif not flags.record():
        flags = remembered
    sampler = subject.typed or subject.sampler
    seed = 0 if recipe is None else recipe.seed
    sources = Sources(
        sampler if sampler.specs else None,
        None if data is None else open_data(data, flags),
        seed,
        subject.sampler.output,
        finished=True,
    )
    if name is None and sources.dataset is not None and _learnt_from_teacher_alone(subject, recipe):
        note(f"{subject.run} learnt from its teacher alone: --data is compared as a set")
        name = "noise"
    recipe = _asking(recipe, name)
    whole = task_of(recipe, sources)
    entry = recipe.task or Named(name=whole.name)
    # The files that a run read its inputs from were trained on, whatever the data is.
    seen = subject.run is not None and sampler.files and not typed_inputs
    if seen or "held_out" not in TASKS.options(entry.name):
        return whole, whole
    shares = (entry.options | {"name": entry.name, "held_out": share} for share in (0.0, HALF))
    distances, sets = (TASKS.bind(spec)(sources) for spec in shares)
    return distances, sets


def _learnt_from_teacher_alone(subject: Subject, recipe: Recipe | None) -> bool:
    task = None if recipe is None else recipe.task
    return task is not None and task.name == "teacher" and not subject.origin.get("data")


def _asking(recipe: Recipe | None, name: str | None) -> Any:
    """Return a recipe that names the task typed, else the run's own."""
    if recipe is not None and (name is None or (recipe.task and recipe.task.name == name)):
        return recipe
    base = recipe or load_recipe("ppcd")
    return base.model_copy(update={"task": None if name is None else Named(name=name)})


def original_of(
    subject: Subject, named: str | None, model: str | None, device: str
) -> nn.Module | None:
    """Return the network that the run of ``subject`` compressed, where it is known for certain.

    Raises:
        ConfigError: ``named`` answers to nothing.
        CheckpointError: weights do not fit.
    """
    home = resolved_device(device)
    if named is not None:
        # A run of code of the user's own needs its name, which was typed for the student.
        folder = Path(named).is_dir()
        found = resolve(named, model if folder else None, device=device, later=True)
        return _called_alike(found.generator, subject)
    if subject.run is None or load_recipe(subject.run / CONFIG).kind == "train":
        return None
    network = _start_of(subject, home)
    then = (subject.origin.get("start") or {}).get("generator")
    if subject.origin.get("form", "module") != "module":
        then = None  # it was that of the graph form
    if network is None or (then is not None and not same_weights(fingerprint(network), then)):
        note("the teacher is not known any more: --teacher RUN or PKG.MODULE:FN compares with it")
        return None
    return _called_alike(network, subject)


def _called_alike(network: nn.Module, subject: Subject) -> nn.Module:
    """Return ``network``, which takes its inputs in the order in which ``subject`` does."""
    typed = subject.typed or subject.sampler
    if typed.parts:
        in_order([part.name for part in typed.parts], network)
    return network


def _start_of(subject: Subject, home: torch.device) -> nn.Module | None:
    """Return the network that the run of ``subject`` started from, if its files are still there."""
    assert subject.run is not None
    origin = subject.origin
    start = origin.get("run") or origin.get("saved")
    if start is not None and not Path(start).is_dir():
        return None
    if start is not None:
        spec = origin["model"]
        model = spec if ":" in spec and not discriminators_of(spec) else None
        network = resolve(start, model, device=str(home), later=True).generator
        if origin.get("init_from"):
            load_weights(network, str(origin["init_from"]))
        return network
    if origin["model"] == EMBEDDED and not origin.get("weights"):
        return original(origin)().to(home).eval()
    folder = origin.get("folder")
    if origin["model"] == BIGGAN and folder is not None and Path(folder).is_dir():
        return load_biggan_folder(Path(folder))[0].to(home).eval()
    weights = origin.get("init_from") or origin.get("weights")
    file = None if weights is None else Path(str(weights).rpartition(":")[0] or str(weights))
    if file is None and not origin.get("start"):
        return None
    if file is not None and not (file.is_file() or Path(str(weights)).is_file()):
        return None
    with torch.random.fork_rng(devices=[]):
        # A builder that draws its weights draws those of the run again.
        torch.manual_seed(load_recipe(subject.run / CONFIG).seed)
        network = original(origin)()
    if weights is not None:
        load_weights(network, str(weights))
    return network.to(home).eval()
