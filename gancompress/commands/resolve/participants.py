"""Who takes part in a run: the generator to start from, its discriminator, and the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from gancompress.commands.console import note
from gancompress.commands.request import Request
from gancompress.commands.resolve.builders import build, load_weights
from gancompress.commands.resolve.datasets import DataFlags, open_data
from gancompress.commands.resolve.run_task import own_sampler, task_of
from gancompress.commands.resolve.subject import (
    BIGGAN,
    EMBEDDED,
    Subject,
    in_its_form,
    is_biggan,
    resolve,
    sampler_for,
)
from gancompress.data.arrays import Dataset, class_names_of
from gancompress.data.embedded import embedded
from gancompress.errors import CheckpointError, ConfigError
from gancompress.models import (
    BigGANConfig,
    BigGANDiscriminator,
    BigGANGenerator,
    load_biggan_folder,
)
from gancompress.models.embedded import embedded_discriminator
from gancompress.modules.discriminator import members_of
from gancompress.modules.fingerprint import fingerprint
from gancompress.modules.joint_discriminator import joined
from gancompress.recipes.load import load_recipe
from gancompress.recipes.networks import (
    NETWORKS,
    REFERENCES,
    check_network,
    discriminators_of,
)
from gancompress.recipes.schema import Recipe
from gancompress.storage import read_json
from gancompress.tasks.paired import Joined, Paired
from gancompress.tasks.protocol import Sources, Task
from gancompress.tasks.unpaired import Unpaired
from gancompress.training.checkpoint import latest_checkpoint
from gancompress.training.run_files import CHECKPOINTS, CONFIG


@dataclass(frozen=True)
class Participants:
    """Who takes part in a run (ours).

    ``request`` and ``recipe`` are those asked for, with what the run that it starts from brings.
    """

    request: Request
    recipe: Recipe
    subject: Subject
    discriminator: nn.Module | None
    dataset: Dataset | None
    task: Task

    def class_names(self) -> list[str] | None:
        """Return the names of the data's classes, in the order of their labels."""
        names = None if self.dataset is None else class_names_of(self.dataset)
        return None if not names else list(names)

    def fingerprints(self) -> dict[str, list[float]]:
        """Return fingerprints of the networks that the run starts from, for those who resume it."""
        reverse = self.task.reverse if isinstance(self.task, Unpaired) else None
        networks = {
            "generator": self.subject.generator,
            "discriminator": self.discriminator,
            "reverse": reverse,
        }
        return {name: fingerprint(net) for name, net in networks.items() if net is not None}

    def data_is_read(self, recipe: Recipe) -> bool:
        """Return whether any step of the run reads its data."""
        return self.dataset is not None and not self.why_not_read(recipe)

    def why_not_read(self, recipe: Recipe) -> str:
        """Return why no step reads the data; empty when they are read."""
        if recipe.losses or _reads_inputs_or_identity(self.task):
            return ""
        fresh = recipe.discriminator.policy == "fresh"
        if self.discriminator is None and not fresh:
            return "there is no discriminator to show them to (--discriminator PKG.MODULE:FN)"
        if recipe.adversarial.weight == 0:
            return "adversarial.weight is 0"
        if recipe.discriminator.policy == "frozen":
            return "discriminator.policy is frozen"
        return "discriminator.real is teacher" if recipe.discriminator.real == "teacher" else ""


def _reads_inputs_or_identity(task: Task) -> bool:
    """Whether ``task`` makes inputs of its data, or compares with them, whoever judges."""
    if isinstance(task, Unpaired):
        return task.identity > 0
    return isinstance(task, Paired) and not isinstance(task.data, Joined)


def gather(request: Request, recipe: Recipe) -> Participants:
    """Return the participants that ``request`` names.

    Raises:
        ConfigError: a name answers to nothing, or does not go with another.
        CheckpointError: weights do not fit.
        DataError: the images cannot be read.
        GraphError: there is no graph form, and it is asked for.
    """
    if request.data is None and (typed := request.data_flags.record()):
        raise ConfigError(f"--{next(iter(typed))} says how --data is read: give --data")
    subject = start_of(recipe, request)
    if request.init_from is not None:
        load_weights(subject.generator, request.init_from)
    discriminator = discriminator_of(subject, request, recipe)
    if request.form != "module":
        subject = in_its_form(subject, request.form)
    request, recipe = brought_along(request, recipe, subject)
    dataset = dataset_of(subject, recipe, request.data, request.data_flags)
    reverse = None
    if request.reverse is not None:
        reverse = build(request.reverse).requires_grad_(False).eval()
        if request.reverse_weights is not None:
            load_weights(reverse, request.reverse_weights)
    typed = subject.typed or subject.sampler
    sampler = typed if typed.specs else None
    sources = Sources(sampler, dataset, recipe.seed, subject.sampler.output, reverse)
    task = task_of(recipe, sources)
    own = own_sampler(task, subject.sampler, subject.generator)
    subject = replace(subject, sampler=own, typed=typed)
    return Participants(request, recipe, subject, discriminator, dataset, task)


def brought_along(request: Request, recipe: Recipe, subject: Subject) -> tuple[Request, Recipe]:
    """Return both with the data and the task of the run that ``subject`` comes from; aloud.

    Only where nothing else is asked for; a run that goes on has all of it already.
    """
    if subject.run is None:
        return request, recipe
    data = subject.origin.get("data")
    if request.data is None and data is not None:
        note(f"no --data: that of {subject.run}, {data}")
        flags = DataFlags.of(subject.origin.get("data_flags") or {})
        request = replace(request, data=data, data_flags=flags)
    task = load_recipe(subject.run / CONFIG).task
    if recipe.task is None and task is not None:
        note(f"task {task.name}, as in {subject.run} (--task chooses another)")
        recipe = recipe.model_copy(update={"task": task})
    return request, recipe


def start_of(recipe: Recipe, request: Request) -> Subject:
    """Return the generator that the run starts from; a training recipe may bring a fresh one.

    Raises:
        ConfigError: the recipe trains and names no network, or one that does not ship.
    """
    what, model, weights, inputs = request.what, request.model, request.weights, request.inputs
    if recipe.kind != "train" or what is not None or model is not None:
        subject = resolve(
            what,
            model,
            weights=weights,
            inputs=inputs,
            output=request.output,
            later=request.data is not None,
        )
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
    if request.discriminator:
        discriminator = joined([build(name) for name in request.discriminator])
    elif subject.spec == EMBEDDED:
        discriminator = embedded_discriminator()
    elif what is not None and is_biggan(Path(what)):
        discriminator = load_biggan_folder(what)[2]
    elif subject.spec == BIGGAN:
        discriminator = BigGANDiscriminator(BigGANConfig.from_dict(subject.origin["config"]))
        if subject.run is not None:
            discriminator = _trained(discriminator, subject.run)
    elif builders := discriminators_of(subject.spec):
        fresh = joined([build(builder) for builder in builders])
        if subject.run is not None and fresh is not None:
            discriminator = _trained(fresh, subject.run)
        elif recipe.kind == "train":
            discriminator = fresh
    if discriminator is None and (weights or request.discriminator_call):
        flag = "--discriminator-weights" if weights else "--discriminator-call"
        raise ConfigError(f"{flag} without --discriminator PKG.MODULE:FN")
    if discriminator is not None:
        for member, file in each_its_own(discriminator, weights, "--discriminator-weights"):
            load_weights(member, file)
    return discriminator


def each_its_own(
    discriminator: nn.Module, given: Sequence[str], flag: str
) -> list[tuple[nn.Module, str]]:
    """Return each of the discriminators with what ``flag`` says of it: one word each, or for all.

    Raises:
        ConfigError: another number of words.
    """
    members = members_of(discriminator) or (discriminator,)
    if len(given) not in (0, 1, len(members)):
        raise ConfigError(
            f"{len(members)} discriminators and {len(given)} times {flag}: give it once for each, "
            "in their order, or once for all"
        )
    said = list(given) * len(members) if len(given) == 1 else list(given)
    return list(zip(members, said, strict=False))


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


def dataset_of(
    subject: Subject, recipe: Recipe, data: str | None, flags: DataFlags
) -> Dataset | None:
    """Return the images of ``--data``, the embedded ones for an embedded network, or ``None``.

    Raises:
        DataError: the images cannot be read.
    """
    if data is not None:
        return open_data(data, flags)
    if subject.spec == EMBEDDED:
        return embedded()
    if recipe.network == "biggan-fashion32" and recipe.kind == "train":
        note("no --data: training on the 2,000 embedded images (the shipped teacher saw 60,000)")
        return embedded()
    if recipe.kind == "train":
        raise ConfigError("training needs images: --data FOLDER or --data FILE.npz")
    note("no --data: the teacher's own images are the only source")
    return None
