"""An experiment: which recipes run, with which changes, seeds and length."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.record import ROOT
from gancompress import assets
from gancompress.errors import ConfigError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.recipes.strict_yaml import parse_yaml

FOLDER = ROOT / "benchmarks" / "experiments"
Words = tuple[str, ...]
# Numbers are comparable only between runs on the same of these.
INPUTS = ("teacher_g.safetensors", "teacher_d.safetensors", "classifier.safetensors")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """One row of the table: a recipe and what is changed in it."""

    recipe: str = Field(description="name of a shipped recipe, or path of a .yaml file")
    overrides: Words = Field((), description="key=value, after those of the experiment")


class Experiment(_Strict):
    """Runs that may be compared: equal data, batch, generator steps and evaluation."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    summary: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    n: Annotated[int, Field(ge=100, description="samples, and reference images, of the metrics")]
    steps: Annotated[int, Field(ge=1, description="generator steps of every run")]
    finetune: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.25, description="share of the steps after the masks are gone, for recipes with masks"
    )
    data: Literal["embedded", "fashion"] = Field(
        "embedded", description="2,000 images of the package, or the 60,000 that the teacher saw"
    )
    overrides: Words = Field((), description="key=value for every run")
    runs: Annotated[dict[str, Entry], Field(min_length=1)]


@dataclass(frozen=True)
class Job:
    """One run of an experiment, with its recipe resolved."""

    experiment: Experiment
    label: str
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """Name of the result file, without its suffix."""
        return f"{self.label}--s{self.seed}"

    @property
    def images(self) -> int:
        """Images that the generator makes in training."""
        return self.recipe.batch * (self.recipe.steps + self.recipe.finetune_steps)

    @property
    def key(self) -> str:
        """Short hash of everything that decides the result, apart from the code."""
        what = [dump_recipe(self.recipe), self.experiment.n, self.seed, inputs_hash()]
        if self.experiment.data != "embedded":
            what.append(self.experiment.data)
        asked = json.dumps(what)
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


def inputs_hash() -> str:
    """Return a short hash of the teacher and the classifier."""
    found = hashlib.sha256()
    for name in INPUTS:
        found.update(assets.path(name).read_bytes())
    return found.hexdigest()[:16]


def read_experiment(name_or_path: str) -> Experiment:
    """Return the experiment of ``benchmarks/experiments`` with this name, or that of a file.

    Raises:
        ConfigError: there is none, or something in it is wrong.
    """
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise ConfigError(f"no experiment {name_or_path!r}; there are: {known}")
    try:
        return Experiment.model_validate(parse_yaml(path.read_text("utf-8"), source=str(path)))
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: " + "; ".join(faults)) from error


def jobs(experiment: Experiment) -> list[Job]:
    """Return every run of ``experiment``, seed by seed.

    Raises:
        ConfigError: a recipe is wrong, or two runs would not see equally many images.
    """
    made = [
        Job(experiment, label, seed, _resolved(experiment, entry, seed))
        for seed in experiment.seeds
        for label, entry in experiment.runs.items()
    ]
    for job in made[1:]:
        for what, own, first in (
            ("images", job.images, made[0].images),
            ("discriminator.steps", *(j.recipe.discriminator.steps for j in (job, made[0]))),
        ):
            if own != first:
                raise ConfigError(
                    f"experiment {experiment.name}: {job.label} has {own} {what}, {made[0].label} "
                    f"has {first}: they cannot be compared. Set batch and steps for all runs"
                )
    return made


def _resolved(experiment: Experiment, entry: Entry, seed: int) -> Recipe:
    # A result travels with its protocol: no figure may depend on what ``auto`` finds.
    fixed = ("precision=bf16", "channels_last=true")
    kind = load_recipe(entry.recipe, (*experiment.overrides, *entry.overrides)).kind
    tail = round(experiment.steps * experiment.finetune) if kind == "prune" else 0
    length = [f"steps={experiment.steps - tail}"]
    if kind == "prune":
        length.append(f"finetune_steps={tail}")
    quiet = [f"seed={seed}", "sample_every=0", "checkpoint_every=0"]
    words = [*fixed, *experiment.overrides, *length, *quiet, *entry.overrides]
    return load_recipe(entry.recipe, words)
