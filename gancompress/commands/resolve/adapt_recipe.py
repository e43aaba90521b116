"""A shipped recipe on a generator it was not written for: what cannot work is replaced, aloud."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gancompress.commands.console import note
from gancompress.commands.resolve.subject import Subject
from gancompress.distill import build_distiller
from gancompress.errors import ConfigError
from gancompress.modules.undisturbed import evaluating
from gancompress.plugins.kinds import AUGMENTATIONS
from gancompress.recipes.schema import Recipe, Weighted

_NEED_DISCRIMINATOR = {"discriminator_features", "co_attention"}


def adapted(
    recipe: Recipe,
    subject: Subject,
    discriminator: nn.Module | None,
    condition: Tensor | None = None,
) -> Recipe:
    """Return ``recipe`` with the distillers that can work here, and say what was changed and why.

    Without a discriminator, those that look through it go (``co_attention`` becomes
    ``attention``); where no conditional norm reads a map, ``class_aware`` becomes ``attention``,
    which is the same without the class, and goes where there is no map (a graph form has none).
    Augmentations of images are left out for sound and volumes. All else is left to fail by its own
    message (ours).

    ``condition`` is what a conditional discriminator is shown beside `Subject.example`'s outputs.
    """
    entries = tuple(
        new for old in recipe.distill for new in _fitting(old, subject, discriminator, condition)
    )
    augment = recipe.augment
    if augment and not _makes_images(subject):
        names = ", ".join(AUGMENTATIONS.label(entry) for entry in augment)
        note(f"no images (n, channels, h, w): augment {names} is left out")
        augment = ()
    return recipe.model_copy(update={"distill": entries, "augment": augment})


def _fitting(
    entry: Weighted,
    subject: Subject,
    discriminator: nn.Module | None,
    condition: Tensor | None,
) -> Iterator[Weighted]:
    name, weight = entry.name, entry.weight
    if discriminator is None and name in _NEED_DISCRIMINATOR:
        if name == "co_attention":
            note(f"no discriminator: distiller attention instead of {name}")
            yield Weighted(name="attention", weight=weight)
        else:
            note(f"no discriminator: distiller {name} is left out")
    elif name == "class_aware" and not _builds(entry, subject, discriminator, condition):
        plain = Weighted(name="attention", weight=weight)
        if _builds(plain, subject, discriminator, condition):
            note("no conditional norm to be class-aware with: distiller attention instead")
            yield plain
        else:
            note(f"no layer of {subject.spec} to look into: distiller {name} is left out")
    else:
        yield entry


def _makes_images(subject: Subject) -> bool:
    """Whether the generator returns a tensor of 4 dimensions; a failing one is told of later."""
    try:
        with torch.no_grad(), evaluating(subject.generator):
            out = subject.sampler.image(subject.generator(*subject.example()))
    except Exception:
        return True
    return not isinstance(out, torch.Tensor) or out.dim() == 4


def _builds(
    entry: Weighted,
    subject: Subject,
    discriminator: nn.Module | None,
    condition: Tensor | None,
) -> bool:
    try:
        build_distiller(
            entry.name,
            teacher=subject.generator,
            student=subject.generator,
            discriminator=discriminator,
            example=subject.example(),
            condition=condition,
            **entry.options,
        )
    except ConfigError:
        return False
    return True
