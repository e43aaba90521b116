"""Adversarial losses on discriminator logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from gancompress.registry import Registry

ADVERSARIAL = Registry("adversarial loss")


@dataclass(frozen=True)
class AdversarialLoss:
    """A pair of losses, both scalars to minimise (ours).

    ``discriminator(real_logits, fake_logits)`` and ``generator(fake_logits)`` take logits of any
    shape.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


@ADVERSARIAL.register("hinge")
def hinge() -> AdversarialLoss:
    """Return the hinge loss (Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17)."""
    return AdversarialLoss(
        discriminator=lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        generator=lambda fake: -fake.mean(),
    )


@ADVERSARIAL.register("nonsaturating")
def nonsaturating() -> AdversarialLoss:
    """Return the non-saturating logistic loss (Goodfellow et al. 2014, section 3)."""
    return AdversarialLoss(
        discriminator=lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        generator=lambda fake: F.softplus(-fake).mean(),
    )


@ADVERSARIAL.register("lsgan")
def lsgan() -> AdversarialLoss:
    """Return the least-squares loss with targets 1 and 0 (Mao et al. 2017, eq. 9)."""
    return AdversarialLoss(
        discriminator=lambda real, fake: 0.5 * ((real - 1).square().mean() + fake.square().mean()),
        generator=lambda fake: 0.5 * (fake - 1).square().mean(),
    )


@ADVERSARIAL.register("bce")
def bce() -> AdversarialLoss:
    """Return binary cross-entropy for a discriminator that ends in a sigmoid (Goodfellow 2014).

    It reads probabilities in [0, 1]. For logits the same loss is ``nonsaturating``.
    """

    def log(p: Tensor) -> Tensor:
        # Not clamped: at 0 the gradient must still push.
        return (p.float() + 1e-7).log()

    return AdversarialLoss(
        discriminator=lambda real, fake: -log(real).mean() - log(1 - fake).mean(),
        generator=lambda fake: -log(fake).mean(),
    )
