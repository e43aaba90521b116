"""Wasserstein loss."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gancompress.training.losses import ADVERSARIAL, AdversarialLoss


@ADVERSARIAL.register("wgan")
def wgan(*, drift: Annotated[float, Field(ge=0)] = 0.0) -> AdversarialLoss:
    """Return the critic's loss E[D(fake)] - E[D(real)] (Arjovsky et al. 2017, eq. 2).

    It means something only where D is Lipschitz: put the regulariser ``gradient_penalty`` beside
    it, or a discriminator with spectral norm. ``drift`` weighs E[D(real)^2], which keeps the
    critic's level near 0 (Karras et al. 2018, appendix A.1: 0.001).
    """
    return AdversarialLoss(
        discriminator=lambda real, fake: (
            fake.mean() - real.mean() + (drift * real.square().mean() if drift else 0.0)
        ),
        generator=lambda fake: -fake.mean(),
    )
