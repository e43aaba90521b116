"""What a user asks of ``prune``, ``train`` or ``distill``, and what a run remembers of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gancompress.commands.resolve.datasets import DataFlags
from gancompress.commands.resolve.subject import EMBEDDED, Subject, read_record
from gancompress.commands.run_start import ROOT, require_recipe
from gancompress.errors import CheckpointError, ConfigError
from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.training.run_files import CONFIG, SUMMARY, numbered_runs
from gancompress.training.start import run_lengths

_OF_NETWORK = ("model", "config", "folder", "saved", "input", "output", "form")
_OF_DISCRIMINATORS = ("discriminator", "discriminator_weights", "discriminator_call")


def _several(value: Any) -> tuple[str, ...]:
    """Return what a record keeps as nothing, a text or a list of texts."""
    return (value,) if isinstance(value, str) else tuple(value or ())


@dataclass(frozen=True)
class Request:
    """The words of the command line, one field a flag; ``what`` is the word MODEL (ours)."""

    kind: str
    recipe: str
    what: str | None = None
    overrides: tuple[str, ...] = ()
    model: str | None = None
    weights: str | None = None
    discriminator: tuple[str, ...] = ()
    discriminator_weights: tuple[str, ...] = ()
    discriminator_call: tuple[str, ...] = ()
    data: str | None = None
    data_flags: DataFlags = DataFlags()
    reverse: str | None = None
    reverse_weights: str | None = None
    features: str | None = None
    workers: int | None = None
    inputs: tuple[str, ...] = ()
    output: str | None = None
    out: Path | None = None
    resume: str | None = None
    init_from: str | None = None
    device: str = "auto"
    max_steps: int | None = None
    form: str = "module"
    dry_run: bool = False
    json: bool = False

    @classmethod
    def typed(cls, kind: str, options: Mapping[str, Any]) -> Request:
        """Return the request of a verb's flags."""
        given: dict[str, Any] = {"kind": kind, **options, "data_flags": DataFlags.of(options)}
        for name in DataFlags().__dict__:
            given.pop(name, None)
        for name in ("overrides", "inputs", *_OF_DISCRIMINATORS):
            given[name] = tuple(given.get(name) or ())
        return cls(**given)

    @property
    def folder(self) -> Path | None:
        """The run folder that ``--resume`` names, if it names one."""
        return None if self.resume in (None, "auto") else Path(str(self.resume))

    def record(self, subject: Subject) -> dict[str, Any]:
        """Return what a run folder keeps beside the recipe: text only."""
        kept = "data", "weights", "init_from", "max_steps"
        # Of a run that this one starts from only what says which network it is.
        record = {k: subject.origin[k] for k in _OF_NETWORK if k in subject.origin}
        record |= {name: getattr(self, name) for name in kept}
        if subject.run is not None:
            record["run"] = str(subject.run)
        for name in _OF_DISCRIMINATORS:
            # One is plain text, as it was before there could be several.
            given = list(getattr(self, name))
            record[name] = given if len(given) > 1 else next(iter(given), None)
        if not self.discriminator_call:
            del record["discriminator_call"]
        for name in ("reverse", "reverse_weights"):
            if getattr(self, name) is not None:
                record[name] = getattr(self, name)
        return record | ({"data_flags": typed} if (typed := self.data_flags.record()) else {})


def continued(request: Request) -> Request:
    """Return ``request`` with what the folder of ``--resume DIR`` remembers.

    Files of data and weights are taken from the record; code has to be typed again.

    Raises:
        ConfigError: there is more in the request than such a run can take.
        CheckpointError: its record is damaged.
    """
    folder = request.folder
    if folder is None:
        return request
    if request.overrides or request.out is not None:
        raise ConfigError(f"--resume {folder} keeps its recipe and folder; leave the rest out")
    if not folder.is_dir():
        raise ConfigError(f"no run folder {folder} to go on with. Begin one in it: --out {folder}")
    found = read_record(folder)
    require_recipe(folder)
    if (folder / SUMMARY).exists():
        raise ConfigError(f"{folder} is finished. See it: gancompress compare {folder}")
    _ask_for_code(request, folder, found)
    what, model = request.what or found.get("folder"), request.model
    if (start := found.get("saved") or found.get("run")) is not None:
        if not Path(start).is_dir():
            raise CheckpointError(
                f"{folder} began with the generator in {start}, which is not there any more. Put "
                "it back, or begin a new run"
            )
        what, model = start, model or request.what
    return replace(
        request,
        what=what,
        model=model,
        recipe=str(folder / CONFIG),
        inputs=request.inputs or tuple(found["input"]),
        output=found.get("output"),
        data=found.get("data"),
        data_flags=DataFlags.of(found.get("data_flags") or {}),
        reverse_weights=found.get("reverse_weights"),
        weights=found.get("weights"),
        init_from=found.get("init_from"),
        max_steps=request.max_steps or found.get("max_steps"),
        discriminator_weights=_several(found.get("discriminator_weights")),
        discriminator_call=_several(found.get("discriminator_call")),
        form=found.get("form", request.form),
    )


def recipe_of(request: Request) -> Recipe:
    """Return the recipe, with the steps that ``--max-steps`` leaves.

    Raises:
        ConfigError: there is no such recipe, it is wrong, or of another kind.
    """
    recipe = load_recipe(request.recipe, request.overrides)
    if recipe.kind != request.kind:
        raise ConfigError(
            f"recipe {recipe.name!r} is of kind {recipe.kind}: "
            f"gancompress {recipe.kind} --recipe {request.recipe}"
        )
    if request.folder is not None:
        return recipe  # the run has its own length already
    steps, finetune = run_lengths(recipe, request.max_steps)
    return recipe.model_copy(update={"steps": steps, "finetune_steps": finetune})


def refuse_to_forget(request: Request) -> None:
    """Refuse a bare ``--resume auto`` where the newest unfinished run needs code to be typed.

    Without this it would start a run of the embedded generator.

    Raises:
        ConfigError: what to type is in the message.
    """
    if request.resume != "auto" or request.what or request.model or request.out is not None:
        return
    for run in reversed(numbered_runs(ROOT)):
        if (run / SUMMARY).exists() or not (run / CONFIG).is_file():
            continue
        try:
            found, kind = read_record(run), load_recipe(run / CONFIG).kind
        except (ConfigError, CheckpointError):
            continue
        if kind != request.kind:
            continue
        if found["model"] != EMBEDDED and ":" in found["model"]:
            raise ConfigError(
                f"{run} is unfinished and was made from {found['model']!r}. Type that name to let "
                f"its code run: {go_on(kind, run, found)}"
            )
        return


def _ask_for_code(request: Request, run: Path, found: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose network is the user's code, which was not typed."""
    typed = request.what or request.model or found.get("folder") or found.get("saved")
    if typed is None and ":" in found["model"]:
        raise ConfigError(
            f"{run} was made from {found['model']!r}. Type that name to let its code run: "
            f"{go_on(request.kind, run, found)}"
        )


def go_on(kind: str, run: Path, record: Mapping[str, Any]) -> str:
    """Return what to type to go on with ``run``; names of code are typed, never read from files."""
    words = ["gancompress", kind, "--resume", str(run)]
    for flag in ("model", "discriminator", "reverse"):
        for name in _several(record.get(flag)):
            if ":" in name:
                words += [f"--{flag}", name]
    if record.get("features"):
        words += ["--features", str(record["features"])]
    return shlex.join(words)
