"""Binary cross-entropy on probabilities."""

from __future__ import annotations

from torch import Tensor

from gancompress.training.losses import ADVERSARIAL, AdversarialLoss


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
