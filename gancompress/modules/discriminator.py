"""Call any discriminator: with labels where it takes them, without where it does not."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from gancompress.errors import ConfigError


def takes_labels(discriminator: nn.Module) -> bool:
    """Return whether ``forward`` has a second argument: a required one, or one named for labels."""
    parameters = [
        p
        for p in inspect.signature(discriminator.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(parameters) < 2:
        return False
    second = parameters[1]
    return second.default is second.empty or second.name in ("y", "c", "label", "labels")


def logits_of(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> Tensor:
    """Return float32 logits of ``images`` (n, c, h, w), conditioned on ``labels`` (n,) if it can.

    Raises:
        ConfigError: the discriminator needs labels and there are none.
    """
    return discriminator(*call_arguments_of(discriminator, images, labels)).float()


def call_arguments_of(
    discriminator: nn.Module, images: Tensor, labels: Tensor | None
) -> tuple[Tensor, ...]:
    """Return the arguments of a call: the images, and their labels where it takes them.

    Raises:
        ConfigError: the discriminator needs labels and there are none.
    """
    if not takes_labels(discriminator):
        return (images,)
    if labels is None:
        raise ConfigError(
            f"{type(discriminator).__name__} needs labels, and the "
            "images carry none; use data with a folder per class, or an unconditional discriminator"
        )
    return images, labels.to(images.device)
