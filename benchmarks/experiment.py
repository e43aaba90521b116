"""An experiment: which recipes run, with which changes, seeds and length."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.frozen import check_seeds
from benchmarks.record import RESULTS, ROOT
from gancompress import assets
from gancompress.errors import ConfigError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.recipes.strict_yaml import parse_yaml

FOLDER = ROOT / "benchmarks" / "experiments"
Words = tuple[str, ...]
CHOSEN = "chosen.json"
# Numbers are comparable only between runs on the same of these.
INPUTS = ("teacher_g.safetensors", "teacher_d.safetensors", "classifier.safetensors")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """One row of the table: a recipe and what is changed in it."""

    recipe: str = Field(
        description="name of a shipped recipe, or path of a .yaml file from the root"
    )
    overrides: Words = Field((), description="key=value, after those of the experiment")
    chosen: str | None = Field(
        None, description="experiment of stage tuning whose best setting of this label is taken"
    )
    as_shipped: bool = Field(
        False, description="the recipe alone, with its own length; seen images may differ"
    )


class Grid(_Strict):
    """The tuning budget of every method: all combinations of these."""

    lr: Annotated[tuple[float, ...], Field(min_length=1, description="of the generator")]
    distill: Annotated[
        tuple[float, ...], Field(min_length=1, description="factors on all distillers' weights")
    ]


class Experiment(_Strict):
    """Runs that may be compared: equal data, batch, generator steps and evaluation."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    summary: str
    stage: Literal["tuning", "reporting", "earlier"] = Field(
        "earlier", description="what its seeds are for; see docs/protocol.md"
    )
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    grid: Grid | None = Field(None, description="settings that each run is tried with")
    samples: Annotated[int, Field(ge=0)] = Field(
        0, description="samples measured against images that no student trained on; 0: none"
    )
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
        if self.experiment.samples:
            what.append(self.experiment.samples)
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
        ConfigError: a recipe is wrong, two runs would not see equally many images, or the seeds are
            not of the experiment's stage.
    """
    check_seeds(experiment.stage, experiment.seeds, experiment.name)
    labels = entries(experiment)
    # Read once each: only the seed differs.
    seed = experiment.seeds[0]
    read = {label: _resolved(experiment, label, e, seed) for label, e in labels.items()}
    made = [
        Job(experiment, label, seed, recipe.model_copy(update={"seed": seed}))
        for seed in experiment.seeds
        for label, recipe in read.items()
    ]
    for job in made[1:]:
        if labels[job.label].as_shipped:
            continue
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


def entries(experiment: Experiment) -> dict[str, Entry]:
    """Return the runs by label: with a grid each run once a setting, ``label@lr,factor``."""
    if experiment.grid is None:
        return dict(experiment.runs)
    found = {}
    for label, entry in experiment.runs.items():
        weights = [e.weight for e in load_recipe(entry.recipe, entry.overrides).distill]
        for lr in experiment.grid.lr:
            for factor in experiment.grid.distill:
                words = [f"generator_optim.lr={lr}"]
                words += [f"distill.{i}.weight={w * factor:.6g}" for i, w in enumerate(weights)]
                own = (*entry.overrides, *words)
                found[f"{label}@{lr:g},{factor:g}"] = entry.model_copy(update={"overrides": own})
    return found


def chosen_words(entry: Entry, label: str) -> Words:
    """Return the overrides of the best setting of ``label`` in the experiment it was tuned in.

    Raises:
        ConfigError: nothing was chosen yet.
    """
    if entry.chosen is None:
        return ()
    path = RESULTS / entry.chosen / CHOSEN
    found = json.loads(path.read_text()) if path.is_file() else {}
    if label not in found:
        raise ConfigError(
            f"run {label!r} takes what was tuned in {entry.chosen!r}, and nothing was chosen for "
            f"it yet: run that experiment, then `python benchmarks/choose.py {entry.chosen}`"
        )
    return tuple(found[label]["overrides"])


def _resolved(experiment: Experiment, label: str, entry: Entry, seed: int) -> Recipe:
    # A result travels with its protocol: no figure may depend on what ``auto`` finds.
    fixed = ("precision=bf16", "channels_last=true")
    name = str(ROOT / entry.recipe) if "/" in entry.recipe else entry.recipe
    kind = load_recipe(name, (*experiment.overrides, *entry.overrides)).kind
    tail = round(experiment.steps * experiment.finetune) if kind == "prune" else 0
    length = [f"steps={experiment.steps - tail}"]
    if kind == "prune":
        length.append(f"finetune_steps={tail}")
    quiet = [f"seed={seed}", "sample_every=0", "checkpoint_every=0"]
    shared = experiment.overrides
    if entry.as_shipped:
        length, shared = [], ()
    words = [*fixed, *shared, *length, *quiet, *entry.overrides]
    return load_recipe(name, [*words, *chosen_words(entry, label)])
