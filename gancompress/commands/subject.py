"""What the user pointed at: a generator, how to draw its inputs, and how to build it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.commands.console import note
from gancompress.commands.models import build, load_builder, load_weights
from gancompress.data.inputs import InputSampler
from gancompress.errors import CheckpointError, ConfigError

EMBEDDED = "embedded"
RECORD = "subject.json"


@dataclass(frozen=True)
class Subject:
    """A generator with everything that a verb needs to use it."""

    spec: str  # "embedded", or the package.module:build_fn that the user typed
    generator: nn.Module
    sampler: InputSampler
    run: Path | None = None  # the run folder that it came from

    @property
    def label(self) -> str:
        """Name for folders and tables."""
        return self.spec.rpartition(":")[2].lower().replace("_", "-").replace(".", "-")

    @property
    def n_classes(self) -> int | None:
        """Number of classes that the sampler draws, ``None`` without labels."""
        return self.sampler.n_classes

    def example(self, n: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        """Return the arguments of one forward pass of ``n`` images."""
        return self.sampler(n, torch.Generator().manual_seed(seed))

    def fresh(self) -> nn.Module:
        """Return the network at its original size, as the builder makes it."""
        return original(self.spec)()


def original(spec: str) -> Callable[[], nn.Module]:
    """Return the function that builds ``spec`` at its original size."""
    if spec == EMBEDDED:
        from gancompress.models import embedded_generator

        return embedded_generator
    load_builder(spec)
    return lambda: build(spec)


def resolve(
    what: str | None,
    model: str | None,
    *,
    weights: str | None = None,
    inputs: Sequence[str] | None = None,
    device: str = "cpu",
) -> Subject:
    """Return the generator of the word ``what``, of ``--model``, or the embedded one.

    Raises:
        ConfigError: nothing answers to the words, or inputs cannot be drawn.
        CheckpointError: weights do not fit.
    """
    run = None if what is None or ":" in what or what == EMBEDDED else Path(what)
    if run is not None:
        subject = _from_run(run, model, inputs)
        if weights is not None:
            raise ConfigError("--weights and a run folder: the folder brings its own weights")
    else:
        if what is not None and model is not None and what != model:
            raise ConfigError(f"the model is given twice: {what!r} and --model {model!r}")
        subject = _from_builder(what or model or EMBEDDED, weights, inputs)
    subject.generator.to(resolved_device(device)).eval()
    return subject


def resolved_device(name: str) -> torch.device:
    """Return the device ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or, for ``auto``, the best there is.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"no device {name!r} here ({first}). Use --device auto") from error
    return device


def record(subject: Subject, **more: Any) -> dict[str, Any]:
    """Return what a run folder remembers of ``subject``: text for people, never imported by us."""
    return {"model": subject.spec, "input": subject.sampler.specs, **more}


def read_record(run: Path) -> dict[str, Any]:
    """Return the record of the run folder ``run``.

    Raises:
        ConfigError: ``run`` is no run folder.
        CheckpointError: its record is damaged.
    """
    if not run.exists():
        near = sorted(str(p) for p in Path("runs").glob("*")) if Path("runs").is_dir() else []
        last = f" The last one: {near[-1]}" if near else ""
        raise ConfigError(
            f"{str(run)!r} is neither a run folder nor package.module:build_fn.{last}"
        )
    if not (run / RECORD).is_file():
        raise ConfigError(f"{run} is no run folder: it has no {RECORD}")
    try:
        found = json.loads((run / RECORD).read_bytes())
        if not isinstance(found["model"], str):
            raise TypeError("model is not text")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / RECORD} is damaged ({error!r})") from error
    return found


def _from_run(run: Path, model: str | None, inputs: Sequence[str] | None) -> Subject:
    import gancompress as gc

    if run.name == "model" and (run.parent / RECORD).is_file():
        run = run.parent
    found = read_record(run)
    spec = found["model"]
    if spec != EMBEDDED and model is None:
        # A folder may come from anywhere; what it names is not imported unless the user types it.
        raise ConfigError(
            f"{run} holds a generator of {spec!r}. Confirm that code by typing it: "
            f"{' '.join(_typed())} --model {spec}"
        )
    if not (run / "model").is_dir():
        raise ConfigError(
            f"{run} has no finished model. Go on with: gancompress prune --resume {run}"
        )
    generator = gc.load(original(model or spec), run / "model")
    specs = list(inputs or found.get("input") or ())
    return Subject(model or spec, generator, sampler_for(generator, specs), run)


def _from_builder(spec: str, weights: str | None, inputs: Sequence[str] | None) -> Subject:
    if spec == EMBEDDED:
        note("model: the embedded BigGAN-32 teacher (Fashion-MNIST)")
        from gancompress.models import embedded_generator

        generator: nn.Module = embedded_generator()
    else:
        generator = build(spec)
        if weights is None:
            note(f"model: {spec}, with the weights that it builds (no --weights)")
    if weights is not None:
        load_weights(generator, weights)
    return Subject(spec, generator, sampler_for(generator, list(inputs or ())))


def sampler_for(generator: nn.Module, specs: Sequence[str]) -> InputSampler:
    """Return the sampler of ``specs``, or of the generator's own ``sample_inputs``.

    Raises:
        ConfigError: neither is there, or a specification is wrong.
    """
    if specs:
        return InputSampler.parse(specs)
    if not callable(getattr(generator, "sample_inputs", None)):
        raise ConfigError(
            f"how are the inputs of {type(generator).__name__} drawn? Say it with "
            "--input 'z=normal(128)' (one --input per argument; labels: 'y=labels(10)'), "
            "or give the class a method sample_inputs(n, rng)"
        )
    return InputSampler.of(generator)


def _typed() -> list[str]:
    return ["gancompress", *sys.argv[1:3]]
