"""Hinge loss."""

from __future__ import annotations

import torch.nn.functional as F

from gancompress.training.losses import ADVERSARIAL, AdversarialLoss


@ADVERSARIAL.register("hinge")
def hinge() -> AdversarialLoss:
    """Return the hinge loss (Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17)."""
    return AdversarialLoss(
        discriminator=lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        generator=lambda fake: -fake.mean(),
    )
