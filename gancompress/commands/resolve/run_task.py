"""Which task a run has, from its recipe and what was typed; and that of a finished run again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gancompress.commands.console import note
from gancompress.commands.resolve.datasets import DataFlags, open_data
from gancompress.data.inputs import InputSampler
from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.tasks.infer import inferred_task
from gancompress.tasks.noise import Noise
from gancompress.tasks.paired import Paired
from gancompress.tasks.protocol import TASKS, Sources, Task, bound_to
from gancompress.training.run_files import CONFIG


def task_of(recipe: Recipe, sources: Sources) -> Task:
    """Return the task that the recipe names, else the one that inputs and data make plain; aloud.

    Raises:
        ConfigError: the task cannot be made of these sources.
        DataError: inputs and data do not belong together.
    """
    if recipe.task is not None:
        return TASKS.bind(recipe.task)(sources)
    name = inferred_task(sources)
    if name != "noise":
        note(f"task {name}, as the inputs and data given make plain (--task chooses another)")
    return TASKS.bind(name)(sources)


def in_words_of(task: Task, call: str) -> str:
    """Return ``--discriminator-call`` with ``condition`` for the inputs' names that make it.

    ``cat(x, image)`` is then what people write of a generator whose input is ``x``.
    """
    names = task.condition_names() if isinstance(task, Paired) else []
    if not names or {"image", "label", "condition"} & set(names):
        return call
    joined = r"\s*,\s*".join(map(re.escape, names))
    return re.sub(rf"(?<![\w.=]){joined}(?![\w.=])", "condition", call)


def own_sampler(task: Task, sampler: InputSampler, network: nn.Module) -> InputSampler:
    """Return ``sampler``, or one of held-out inputs where the task brings them.

    ``network`` takes them by place from then on, also what the task gives by name.
    """
    if isinstance(task, Noise):
        return sampler
    for first in task.held_out(1, 1):
        bound_to(first, network)

    def draw(n: int, rng: torch.Generator) -> tuple[torch.Tensor, ...]:
        found = [batch.arguments for batch in task.held_out(n, n)]
        columns = [torch.cat(parts) for parts in zip(*found, strict=True)]
        return tuple(x[torch.arange(n) % len(x)] for x in columns)

    specs = sampler.specs or (f"held-out inputs of task {task.name}",)
    return InputSampler(draw, specs, output=sampler.output)


def task_of_run(run: Path, record: Mapping[str, Any], sampler: InputSampler) -> Task | None:
    """Return the task of a finished run with data of its own; ``None`` where inputs are drawn.

    Raises:
        DataError: the data is not there any more, or has changed.
    """
    recipe = load_recipe(run / CONFIG)
    path = record.get("data")
    if recipe.task is None or not (isinstance(path, str) or recipe.task.options.get("rate")):
        return None
    flags = DataFlags.of(record.get("data_flags") or {})
    data = open_data(path, flags) if isinstance(path, str) else None
    given = sampler if sampler.specs else None
    return TASKS.bind(recipe.task)(Sources(given, data, recipe.seed, sampler.output, finished=True))
