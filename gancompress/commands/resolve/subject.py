"""What the user pointed at: a generator, how to draw its inputs, and how to build it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.commands.console import note
from gancompress.commands.resolve.builders import build, load_builder, load_weights
from gancompress.commands.resolve.run_task import own_sampler, task_of_run
from gancompress.commands.resolve.size import at_size, size_in
from gancompress.data.inputs import InputSampler
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.graph.form.module import GraphForm
from gancompress.graph.form.to_graph import in_form
from gancompress.models import BigGANConfig, BigGANGenerator, load_biggan_folder
from gancompress.models.embedded import embedded_generator
from gancompress.recipes.load import load_recipe
from gancompress.recipes.networks import discriminators_of
from gancompress.storage import read_json
from gancompress.tasks.protocol import Task
from gancompress.training.run_files import CONFIG, SUBJECT, numbered_runs

EMBEDDED = "embedded"
BIGGAN = "biggan"


@dataclass(frozen=True)
class Subject:
    """A generator with everything that a verb needs to use it.

    ``origin["model"]`` is ``embedded``, ``biggan`` (then ``origin["config"]`` has its sizes), or
    the ``package.module:build_fn`` that the user typed; ``origin["input"]`` what was typed for
    ``--input``.
    """

    origin: Mapping[str, Any]
    generator: nn.Module
    sampler: InputSampler
    run: Path | None = None  # the run folder that it came from
    task: Task | None = None  # of that run, where its data brings the inputs
    typed: InputSampler | None = None  # what was typed for --input then

    @property
    def spec(self) -> str:
        """What to call it in a message."""
        return str(self.origin["model"])

    @property
    def label(self) -> str:
        """Name for folders and files."""
        return self.spec.rpartition(":")[2].lower().replace("_", "-").replace(".", "-")

    @property
    def n_classes(self) -> int | None:
        """Number of classes that the sampler draws, ``None`` without labels."""
        return self.sampler.n_classes

    def example(self, n: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        """Return the arguments of one forward pass of ``n`` images."""
        return self.sampler(n, torch.Generator().manual_seed(seed))


def original(origin: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Return the function that builds the network of ``origin`` at its original size."""
    if origin["model"] == EMBEDDED:
        return embedded_generator
    if origin["model"] == BIGGAN:
        return lambda: BigGANGenerator(BigGANConfig.from_dict(origin["config"]))
    load_builder(origin["model"])
    return lambda: build(origin["model"])


def resolve(
    what: str | None,
    model: str | None,
    *,
    weights: str | None = None,
    inputs: Sequence[str] | None = None,
    output: str | None = None,
    device: str = "cpu",
    later: bool = False,
) -> Subject:
    """Return the generator of the word ``what``, of ``--model``, or the embedded one.

    ``later``: data may bring the inputs, so that it is no error yet when nothing says them.

    Raises:
        ConfigError: nothing answers to the words, or inputs cannot be drawn.
        CheckpointError: weights do not fit.
    """
    what, size = size_in(what)
    folder = None if what is None or what == EMBEDDED else Path(what)
    if folder is not None and ":" in str(folder) and not folder.exists():
        folder = None
    if folder is None:
        if what is not None and model is not None and what != model:
            raise ConfigError(f"the model is given twice: {what!r} and --model {model!r}")
        subject = _from_builder(what or model or EMBEDDED, weights, inputs, output)
    else:
        _refuse_a_weight_file(folder)
        if weights is not None:
            raise ConfigError(f"{folder} brings its own weights; leave --weights out")
        if is_biggan(folder):
            subject = _from_biggan(folder, model, inputs)
        elif is_saved(folder):
            subject = _from_saved(folder, model, inputs, output)
        else:
            subject = _from_run(folder, model, inputs, output, own_data=not later)
    if size is not None:
        build_fn = original(subject.origin)
        small = at_size(build_fn, subject.run, subject.sampler, size)
        subject = replace(subject, generator=small)
    if not later and not subject.sampler.specs:
        subject.example(1)  # raises, and says how to say it
    subject.generator.to(resolved_device(device)).eval()
    return subject


def in_its_form(subject: Subject, form: str) -> Subject:
    """Return ``subject`` with the graph form of its generator, which its run remembers.

    Raises:
        ConfigError: another form than ``graph``.
        GraphError: the generator has no graph form.
    """
    generator = in_form(subject.generator, subject.example(), None, form)
    return replace(subject, generator=generator, origin={**subject.origin, "form": form})


def is_biggan(folder: Path) -> bool:
    """Return whether ``folder`` is a published BigGAN checkpoint, or one that we converted."""
    return (folder / "biggan.json").is_file() or (folder / "G_ema.pth").is_file()


def is_saved(folder: Path) -> bool:
    """Return whether ``gancompress.save`` made ``folder``, outside of any run."""
    home = folder.parent if folder.name == "model" else folder
    return (folder / "plan.json").is_file() and not (home / SUBJECT).is_file()


WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".pkl", ".pickle", ".h5", ".npz")


def _refuse_a_weight_file(path: Path) -> None:
    if path.is_file() or (path.suffix.lower() in WEIGHTS and not path.is_dir()):
        there = "" if path.exists() else f" (and there is no file {path})"
        raise ConfigError(
            f"{path} is a file of weights, not a network{there}. Name the code that builds it: "
            f"gancompress prune package.module:build_fn --weights {path}"
        )


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


def read_record(run: Path) -> dict[str, Any]:
    """Return what the run folder ``run`` remembers of its subject: text, never imported.

    Raises:
        ConfigError: ``run`` is no run folder.
        CheckpointError: its record is damaged.
    """
    if not run.exists():
        near = numbered_runs(Path("runs"))
        last = f" The last one: {near[-1]}" if near else ""
        raise ConfigError(
            f"{str(run)!r} is neither a run folder nor package.module:build_fn.{last}"
        )
    if not (run / SUBJECT).is_file():
        raise ConfigError(f"{run} is no run folder: it has no {SUBJECT}")
    found = read_json(run / SUBJECT)
    try:
        texts = [found["model"], *found["input"]]
        if not isinstance(found["input"], list) or not all(isinstance(t, str) for t in texts):
            raise TypeError("model must be text, and input a list of texts")
        if found["input"]:
            InputSampler.parse(found["input"])
        if found["model"] == BIGGAN:
            _refuse_huge(BigGANConfig.from_dict(found["config"]))
    except (ConfigError, KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointError(f"{run / SUBJECT} is damaged ({error})") from error
    return found


LARGEST = 2**32  # bytes of weights that a record may ask for: ten times the largest BigGAN


def _refuse_huge(config: BigGANConfig) -> None:
    """Refuse a configuration, read from a file, that would fill the memory before it fails."""
    with torch.device("meta"):
        network = BigGANGenerator(config)
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    if size > LARGEST:
        raise ValueError(f"its network has {size:,} bytes of weights")


def _from_saved(
    folder: Path, model: str | None, inputs: Sequence[str] | None, output: str | None
) -> Subject:
    import gancompress as gc

    if model is None and _says_how(folder):
        generator = gc.load(folder)
        origin = _origin({"model": _saved_class(folder), "saved": str(folder)}, inputs, output)
        return Subject(origin, generator, sampler_for(generator, inputs, output, later=True))
    if model is None:
        name = _saved_class(folder)
        raise ConfigError(
            f"{folder} was written by gancompress.save, from a {name}. Name the code that builds "
            f"it at its original size: --model package.module:{name}"
        )
    generator = gc.load(original({"model": model}), folder)
    home = original({"model": model})() if isinstance(generator, GraphForm) else generator
    origin = _origin({"model": model, "saved": str(folder)}, inputs, output)
    return Subject(origin, generator, sampler_for(home, inputs, output, later=True))


def _says_how(folder: Path) -> bool:
    """Return whether a saved folder holds one of our own networks, and what it was built with."""
    try:
        return read_json(folder / "config.json").get("built") is not None
    except (CheckpointError, AttributeError):
        return False


def _saved_class(folder: Path) -> str:
    try:
        name = read_json(folder / "config.json")["class"]
    except (CheckpointError, KeyError, TypeError):
        return "build_fn"
    return name if isinstance(name, str) and name.isidentifier() else "build_fn"


def _origin(
    about: Mapping[str, Any], inputs: Sequence[str] | None, output: str | None
) -> dict[str, Any]:
    """Return ``about`` with what was typed for --input and, if anything, for --output."""
    more = {} if output is None else {"output": output}
    return {**about, "input": list(inputs or ()), **more}


def _from_run(
    run: Path,
    model: str | None,
    inputs: Sequence[str] | None,
    output: str | None,
    *,
    own_data: bool = True,
) -> Subject:
    import gancompress as gc

    if run.name == "model" and (run.parent / SUBJECT).is_file():
        run = run.parent
    found = read_record(run)
    if found["model"] not in (EMBEDDED, BIGGAN):
        if model is None and discriminators_of(found["model"]):
            model = found["model"]  # a reference network, out of our own table
        if model is None:
            # A folder may come from anywhere; what it names is imported only if the user types it.
            raise ConfigError(
                f"{run} was made from {found['model']!r}. Type that name to let its code run: "
                f"--model {found['model']}"
            )
        found["model"] = model
    if not (run / "model").is_dir():
        kind = load_recipe(run / CONFIG).kind if (run / CONFIG).is_file() else "prune"
        raise ConfigError(
            f"{run} has no finished model. Go on with: gancompress {kind} --resume {run}"
        )
    found["input"] = list(inputs or found["input"])
    found |= {} if output is None else {"output": output}
    generator = gc.load(original(found), run / "model")
    # A graph form does not have the methods of its class.
    home = original(found)() if isinstance(generator, GraphForm) else generator
    output = found.get("output")
    sampler = sampler_for(home, found["input"], output, later=True)
    task = None
    try:
        task = task_of_run(run, found, sampler)
    except DataError:
        if own_data:  # beside other data the run's own may be gone by now
            raise
    shown = sampler if task is None else own_sampler(task, sampler, generator)
    return Subject(found, generator, shown, run, task, sampler)


def _from_biggan(folder: Path, model: str | None, inputs: Sequence[str] | None) -> Subject:
    if model is not None:
        raise ConfigError(f"the model is given twice: {str(folder)!r} and --model {model!r}")
    note(f"model: the BigGAN checkpoint in {folder} (moving average)")
    generator, _, _ = load_biggan_folder(folder)
    origin = {
        "model": BIGGAN,
        "config": generator.config.to_dict(),
        "folder": str(folder),
        "input": list(inputs or ()),
    }
    return Subject(origin, generator, sampler_for(generator, inputs, later=True))


def _from_builder(
    spec: str, weights: str | None, inputs: Sequence[str] | None, output: str | None
) -> Subject:
    if spec == EMBEDDED:
        note("model: the embedded BigGAN-32 teacher (Fashion-MNIST)")
        generator: nn.Module = embedded_generator()
    else:
        generator = build(spec)
        if weights is None:
            note(f"model: {spec}, with the weights that it builds (no --weights)")
    if weights is not None:
        load_weights(generator, weights)
    origin = _origin({"model": spec}, inputs, output)
    return Subject(origin, generator, sampler_for(generator, inputs, output, later=True))


def sampler_for(
    generator: nn.Module,
    specs: Sequence[str] | None,
    output: str | None = None,
    *,
    later: bool = False,
) -> InputSampler:
    """Return the sampler of ``specs``, or of the generator's own ``sample_inputs``.

    ``later``: data may bring the inputs, so that it is no error yet when nothing says them.

    Raises:
        ConfigError: neither is there, or a specification is wrong.
        DataError: files that a specification names do not fit together.
    """
    if specs:
        return InputSampler.parse(specs, generator, output)
    if callable(getattr(generator, "sample_inputs", None)):
        return InputSampler.of(generator, output)
    sampler = InputSampler.unsaid(generator, output)
    if not later:
        sampler(1, torch.Generator())
    return sampler
