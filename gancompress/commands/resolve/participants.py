"""Who takes part in a run: the generator to start from, its discriminator, and the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from gancompress.commands.console import note
from gancompress.commands.request import Request
from gancompress.commands.resolve.builders import build, load_weights
from gancompress.commands.resolve.subject import (
    BIGGAN,
    EMBEDDED,
    Subject,
    in_its_form,
    is_biggan,
    resolve,
    sampler_for,
)
from gancompress.data.arrays import Dataset, class_names_of, notes_of
from gancompress.data.embedded import embedded
from gancompress.data.folders import open_images
from gancompress.errors import CheckpointError, ConfigError
from gancompress.models import (
    BigGANConfig,
    BigGANDiscriminator,
    BigGANGenerator,
    load_biggan_folder,
)
from gancompress.models.embedded import embedded_discriminator
from gancompress.models.together import together
from gancompress.recipes.networks import (
    NETWORKS,
    REFERENCES,
    check_network,
    discriminators_of,
)
from gancompress.recipes.schema import Recipe
from gancompress.storage import read_json
from gancompress.tasks.infer import inferred_task
from gancompress.tasks.protocol import TASKS, Sources, Task
from gancompress.training.checkpoint import latest_checkpoint
from gancompress.training.run_files import CHECKPOINTS


@dataclass(frozen=True)
class Participants:
    """Who takes part in a run (ours)."""

    subject: Subject
    discriminator: nn.Module | None
    dataset: Dataset | None
    task: Task

    def class_names(self) -> list[str] | None:
        """Return the names of the data's classes, in the order of their labels."""
        names = None if self.dataset is None else class_names_of(self.dataset)
        return None if not names else list(names)

    def data_is_read(self, recipe: Recipe) -> bool:
        """Return whether the run shows its data to a discriminator that learns."""
        return self.dataset is not None and not self.why_not_read(recipe)

    def why_not_read(self, recipe: Recipe) -> str:
        """Return why no step reads the data; empty when they are read."""
        if self.discriminator is None:
            return "there is no discriminator to show them to (--discriminator PKG.MODULE:FN)"
        if recipe.adversarial.weight == 0:
            return "adversarial.weight is 0"
        if recipe.discriminator.policy == "frozen":
            return "discriminator.policy is frozen"
        return "discriminator.real is teacher" if recipe.discriminator.real == "teacher" else ""


def gather(request: Request, recipe: Recipe) -> Participants:
    """Return the participants that ``request`` names.

    Raises:
        ConfigError: a name answers to nothing, or does not go with another.
        CheckpointError: weights do not fit.
        DataError: the images cannot be read.
        GraphError: there is no graph form, and it is asked for.
    """
    subject = start_of(recipe, request)
    if request.init_from is not None:
        load_weights(subject.generator, request.init_from)
    discriminator = discriminator_of(subject, request, recipe)
    if request.form != "module":
        subject = in_its_form(subject, request.form)
    dataset = dataset_of(subject, recipe, request.data)
    sources = Sources(subject.sampler, dataset, recipe.seed, subject.sampler.output)
    return Participants(subject, discriminator, dataset, task_of(recipe, sources))


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


def start_of(recipe: Recipe, request: Request) -> Subject:
    """Return the generator that the run starts from; a training recipe may bring a fresh one.

    Raises:
        ConfigError: the recipe trains and names no network, or one that does not ship.
    """
    what, model, weights, inputs = request.what, request.model, request.weights, request.inputs
    if recipe.kind != "train" or what is not None or model is not None:
        subject = resolve(what, model, weights=weights, inputs=inputs, output=request.output)
        saved = subject.origin.get("saved")
        home = Path(saved) if saved else subject.run and subject.run / "model"
        if home is not None and _is_cut(home):
            raise ConfigError(
                f"{saved or subject.run} holds a generator that has been cut already. Start "
                "from its teacher, with a smaller --target"
            )
        return subject
    if recipe.network is None:
        raise ConfigError(
            f"recipe {recipe.name!r} names no network. Give one: --model package.module:build_fn"
        )
    check_network(recipe)
    if recipe.network in REFERENCES:
        spec = REFERENCES[recipe.network][0]
        return resolve(None, spec, weights=weights, inputs=inputs, output=request.output)
    generator = BigGANGenerator(getattr(BigGANConfig, NETWORKS[recipe.network])())
    if weights is not None:
        load_weights(generator, weights)
    config = generator.config.to_dict()
    origin = {"model": BIGGAN, "config": config, "input": list(inputs or ())}
    return Subject(origin, generator, sampler_for(generator, inputs, request.output))


def discriminator_of(subject: Subject, request: Request, recipe: Recipe) -> nn.Module | None:
    """Return the discriminator that the user named, or the one that belongs to the generator.

    That of a reference network is made afresh where the network is trained from nothing; in a run
    it is the one that was trained there.

    Raises:
        ConfigError: weights without a network.
        CheckpointError: the weights do not fit.
    """
    what, weights = request.what, request.discriminator_weights
    discriminator: nn.Module | None = None
    if request.discriminator is not None:
        discriminator = build(request.discriminator)
    elif subject.spec == EMBEDDED:
        discriminator = embedded_discriminator()
    elif what is not None and is_biggan(Path(what)):
        discriminator = load_biggan_folder(what)[2]
    elif subject.spec == BIGGAN:
        discriminator = BigGANDiscriminator(BigGANConfig.from_dict(subject.origin["config"]))
        if subject.run is not None:
            discriminator = _trained(discriminator, subject.run)
    elif builders := discriminators_of(subject.spec):
        fresh = together([build(builder) for builder in builders])
        if subject.run is not None:
            discriminator = _trained(fresh, subject.run)
        elif recipe.kind == "train":
            discriminator = fresh
    if discriminator is None and (weights or request.discriminator_call):
        flag = "--discriminator-weights" if weights else "--discriminator-call"
        raise ConfigError(f"{flag} without --discriminator PKG.MODULE:FN")
    if weights is not None and discriminator is not None:
        load_weights(discriminator, weights)
    return discriminator


def _is_cut(model: Path) -> bool:
    try:
        return bool(read_json(model / "plan.json")["tensors"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{model / 'plan.json'} is damaged ({error!r})") from error


def _trained(discriminator: nn.Module, run: Path) -> nn.Module | None:
    """Load the discriminator of the newest checkpoint of ``run``, if it has one."""
    found, complaints = latest_checkpoint(run / CHECKPOINTS)
    for complaint in complaints:
        note(f"passed over: {complaint}")
    if found is None or "discriminator" not in found.parts:
        return None
    discriminator.load_state_dict(found.parts["discriminator"])
    return discriminator


def dataset_of(subject: Subject, recipe: Recipe, data: str | None) -> Dataset | None:
    """Return the images of ``--data``, the embedded ones for an embedded network, or ``None``.

    Raises:
        DataError: the images cannot be read.
    """
    if data is None and subject.run is not None and (data := subject.origin.get("data")):
        note(f"no --data: the images of {subject.run}, {data}")
    if data is not None:
        dataset = open_images(data)
        say_data(dataset)
        return dataset
    if subject.spec == EMBEDDED:
        return embedded()
    if recipe.network == "biggan-fashion32" and recipe.kind == "train":
        note("no --data: training on the 2,000 embedded images (the shipped teacher saw 60,000)")
        return embedded()
    if recipe.kind == "train":
        raise ConfigError("training needs images: --data FOLDER or --data FILE.npz")
    note("no --data: the teacher's own images are the only source")
    return None


def say_data(dataset: Dataset) -> None:
    """Say on stderr how the files were read, and which label each class has."""
    for line in notes_of(dataset):
        note(f"data: {line}")
    if names := class_names_of(dataset):
        shown = ", ".join(f"{i} {name}" for i, name in enumerate(names[:20]))
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        note(f"data: {len(names)} classes: {shown}{more}")
