"""Who takes part in a run: the generator to start from, its judge, and the images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from gancompress.commands.console import note
from gancompress.commands.resolve.builders import build, load_weights
from gancompress.commands.resolve.subject import (
    BIGGAN,
    EMBEDDED,
    Subject,
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
from gancompress.recipes.networks import NETWORKS, check_network
from gancompress.recipes.schema import Recipe
from gancompress.training.checkpoint import latest_checkpoint


def start_of(
    recipe: Recipe,
    what: str | None,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
) -> Subject:
    """Return the generator that the run starts from; a training recipe may bring a fresh one.

    Raises:
        ConfigError: the recipe trains and names no network, or one that does not ship.
    """
    if recipe.kind != "train" or what is not None or model is not None:
        subject = resolve(what, model, weights=weights, inputs=inputs)
        if subject.run is not None and _is_cut(subject.run):
            raise ConfigError(
                f"{subject.run} holds a generator that has been cut already. Start from its "
                "teacher, with a smaller --target"
            )
        return subject
    if recipe.network is None:
        raise ConfigError(
            f"recipe {recipe.name!r} names no network. Give one: --model package.module:build_fn"
        )
    check_network(recipe)
    generator = BigGANGenerator(getattr(BigGANConfig, NETWORKS[recipe.network])())
    if weights is not None:
        load_weights(generator, weights)
    config = generator.config.to_dict()
    origin = {"model": BIGGAN, "config": config, "input": list(inputs or ())}
    return Subject(origin, generator, sampler_for(generator, inputs))


def discriminator_of(
    subject: Subject, what: str | None, discriminator: str | None, weights: str | None
) -> nn.Module | None:
    """Return the discriminator that the user named, or the one that belongs to the generator.

    Raises:
        ConfigError: weights without a network.
        CheckpointError: the weights do not fit.
    """
    judge: nn.Module | None = None
    if discriminator is not None:
        judge = build(discriminator)
    elif subject.spec == EMBEDDED:
        judge = embedded_discriminator()
    elif what is not None and is_biggan(Path(what)):
        judge = load_biggan_folder(what)[2]
    elif subject.spec == BIGGAN:
        judge = BigGANDiscriminator(BigGANConfig.from_dict(subject.origin["config"]))
        if subject.run is not None:
            judge = _trained(judge, subject.run)
    if weights is not None:
        if judge is None:
            raise ConfigError("--discriminator-weights without --discriminator PKG.MODULE:FN")
        load_weights(judge, weights)
    return judge


def _is_cut(run: Path) -> bool:
    try:
        return bool(json.loads((run / "model" / "plan.json").read_bytes())["tensors"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / 'model' / 'plan.json'} is damaged ({error!r})") from error


def _trained(judge: nn.Module, run: Path) -> nn.Module | None:
    """Load the discriminator of the newest checkpoint of ``run``, if it has one."""
    found, complaints = latest_checkpoint(run / "ckpt")
    for complaint in complaints:
        note(f"passed over: {complaint}")
    if found is None or "discriminator" not in found.parts:
        return None
    judge.load_state_dict(found.parts["discriminator"])
    return judge


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
