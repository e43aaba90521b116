"""A shipped recipe on a generator it was not written for: what cannot work is replaced, aloud."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from gancompress.commands.console import note
from gancompress.commands.resolve.subject import Subject
from gancompress.distill import build_distiller
from gancompress.errors import ConfigError
from gancompress.modules.discriminator import call_of, members_of, takes_condition
from gancompress.modules.undisturbed import evaluating
from gancompress.plugins.kinds import AUGMENTATIONS
from gancompress.recipes.parts import Weighted
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Shown

_NEED_DISCRIMINATOR = {"discriminator_features", "co_attention"}


def adapted(
    recipe: Recipe,
    subject: Subject,
    discriminator: nn.Module | None,
    shown: Shown,
) -> Recipe:
    """Return ``recipe`` with the distillers that can work here, and say what was changed and why.

    Without a discriminator, or one without layers to look into, those that look through it go
    (``co_attention`` becomes ``attention``). Where no conditional norm reads a map, or no sample
    has a class, ``class_aware`` becomes condition-aware (variant ``cam`` on the score that the
    discriminator gives beside the condition) if the discriminator is shown one, else
    ``attention``, which is the same without the class; it goes where there is no map (a graph form
    has none). Augmentations of images are left out for sound and volumes. All else is left to fail
    by its own message (ours).

    ``shown`` is the teacher's output for `Subject.example`, as a discriminator is shown it.
    """
    entries = tuple(
        new for old in recipe.distill for new in _fitting(old, subject, discriminator, shown)
    )
    augment = recipe.augment
    if augment and not _makes_images(subject):
        names = ", ".join(AUGMENTATIONS.label(entry) for entry in augment)
        note(f"no images (n, channels, h, w): augment {names} is left out")
        augment = ()
    return recipe.model_copy(update={"distill": entries, "augment": augment})


def _fitting(
    entry: Weighted, subject: Subject, discriminator: nn.Module | None, shown: Shown
) -> Iterator[Weighted]:
    name, weight = entry.name, entry.weight
    if name in _NEED_DISCRIMINATOR and not _looks_through(entry, subject, discriminator, shown):
        why = "no discriminator"
        if discriminator is not None:
            why = f"{type(discriminator).__name__} has no layer to look into"
        if name == "co_attention":
            note(f"{why}: distiller attention instead of {name}")
            yield Weighted(name="attention", weight=weight)
        else:
            note(f"{why}: distiller {name} is left out")
    elif name == "class_aware" and not _knows_class(entry, subject, discriminator, shown):
        why = "no conditional norm reads a block's output as such"
        if entry.options.get("variant", "gain") in _NEED_CLASS:
            why = "no classes to be aware of"
        beside = Weighted.model_validate({"name": name, "weight": weight, "variant": "cam"})
        plain = Weighted(name="attention", weight=weight)
        if _sees_condition(discriminator, shown) and _builds(beside, subject, discriminator, shown):
            note(
                f"{why}: distiller class_aware is condition-aware instead (variant cam: where the "
                "discriminator's score beside the condition comes from)"
            )
            yield beside
        elif _builds(plain, subject, discriminator, shown):
            note(f"{why}: distiller attention instead")
            yield plain
        else:
            note(f"no layer of {subject.spec} to look into: distiller {name} is left out")
    else:
        yield entry


_NEED_CLASS = ("prototype", "cam")
"""Variants of ``class_aware`` that look at the class of each sample."""


def _knows_class(
    entry: Weighted, subject: Subject, discriminator: nn.Module | None, shown: Shown
) -> bool:
    """Whether ``class_aware`` as the recipe has it can work here."""
    variant = entry.options.get("variant", "gain")
    if variant in _NEED_CLASS and shown.labels is None:
        return variant == "cam" and _sees_condition(discriminator, shown)
    return _builds(entry, subject, discriminator, shown)


def _looks_through(
    entry: Weighted, subject: Subject, discriminator: nn.Module | None, shown: Shown
) -> bool:
    return discriminator is not None and _builds(entry, subject, discriminator, shown)


def _sees_condition(discriminator: nn.Module | None, shown: Shown) -> bool:
    if discriminator is None or shown.condition is None:
        return False
    parts = members_of(discriminator) or (discriminator,)
    calls = (call_of(part, shown.output, shown.labels, shown.condition) for part in parts)
    return any(takes_condition(call) for call in calls)


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
    shown: Shown,
) -> bool:
    try:
        build_distiller(
            entry.name,
            teacher=subject.generator,
            student=subject.generator,
            discriminator=discriminator,
            example=subject.example(),
            labels=shown.labels,
            condition=shown.condition,
            image=shown.output,
            **entry.options,
        )
    except ConfigError:
        return False
    return True
