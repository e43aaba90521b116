"""Non-saturating logistic loss."""

from __future__ import annotations

import torch.nn.functional as F

from gancompress.training.losses import ADVERSARIAL, AdversarialLoss


@ADVERSARIAL.register("nonsaturating")
def nonsaturating() -> AdversarialLoss:
    """Return the non-saturating logistic loss (Goodfellow et al. 2014, section 3)."""
    return AdversarialLoss(
        discriminator=lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        generator=lambda fake: F.softplus(-fake).mean(),
    )
