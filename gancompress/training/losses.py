"""Adversarial losses on discriminator logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from gancompress.plugins.kinds import ADVERSARIAL


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
