"""Least-squares loss."""

from __future__ import annotations

from gancompress.training.losses import ADVERSARIAL, AdversarialLoss


@ADVERSARIAL.register("lsgan")
def lsgan() -> AdversarialLoss:
    """Return the least-squares loss with targets 1 and 0 (Mao et al. 2017, eq. 9)."""
    return AdversarialLoss(
        discriminator=lambda real, fake: 0.5 * ((real - 1).square().mean() + fake.square().mean()),
        generator=lambda fake: 0.5 * (fake - 1).square().mean(),
    )
