"""Whether losses read what they are given: logits or probabilities, and sound of which rate."""

from __future__ import annotations

from torch import nn

from gancompress.errors import ConfigError
from gancompress.losses.protocol import LOSSES
from gancompress.modules.discriminator import call_of
from gancompress.modules.discriminator_probe import ends_in_sigmoid
from gancompress.modules.undisturbed import look
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Task

ON_PROBABILITIES = ("bce", "lsgan")
"""Losses that make sense on the output of a sigmoid."""


def loss_remark(
    recipe: Recipe,
    discriminator: nn.Module | None,
    generator: nn.Module,
    task: Task,
    example: Batch,
) -> str:
    """Return what to say before step 0 about the loss and ``discriminator``; empty: nothing.

    Raises:
        ConfigError: ``bce`` on a discriminator that returns other numbers than probabilities.
    """
    if discriminator is None or recipe.adversarial.weight == 0:
        return ""
    loss = recipe.adversarial.loss
    shown = task.shown(example, task.output(look(generator, example.inputs, example.kwargs)))
    call = call_of(discriminator, shown.output, shown.labels, shown.condition)
    values = {"image": shown.output, "label": shown.labels, "condition": shown.condition}
    name = type(discriminator).__name__
    sigmoid = ends_in_sigmoid(discriminator, call, **values)
    if loss == "bce" and not sigmoid:
        raise ConfigError(
            f"adversarial.loss bce reads probabilities, and {name} does not end in a sigmoid. For "
            "logits the same loss is adversarial.loss=nonsaturating"
        )
    if sigmoid and loss not in ON_PROBABILITIES:
        return (
            f"{name} ends in a sigmoid, and adversarial.loss {loss} reads logits: it learns little "
            "that way. Set adversarial.loss=bce, or take the sigmoid away"
        )
    return ""


def check_rates(recipe: Recipe, task: Task) -> None:
    """Refuse a loss that reckons with another sampling rate than the sound has.

    Raises:
        ConfigError: which loss, and both rates.
    """
    for i, entry in enumerate(recipe.losses):
        option = LOSSES.options(entry.name).get("rate")
        if option is None or task.rate is None:
            continue
        rate = entry.options.get("rate", option.default)
        if rate != task.rate:
            raise ConfigError(
                f"loss {entry.name} reckons with {rate:,} samples a second and the sound has "
                f"{task.rate:,}: its bands would be other notes. Set losses.{i}.rate={task.rate}"
            )
