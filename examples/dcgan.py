"""A generator of one's own, as a user would write it: nothing in it knows about gancompress."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DCGAN(nn.Module):
    """Latents (n, 64, 1, 1) to images (n, 3, 32, 32) in [-1, 1]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [64, 4 * width, 2 * width, width]
        layers: list[nn.Module] = []
        for stage, (i, o) in enumerate(zip(widths, widths[1:], strict=False)):
            first = stage == 0
            layers += [
                nn.ConvTranspose2d(i, o, 4, 1 if first else 2, 0 if first else 1, bias=False),
                nn.BatchNorm2d(o),
                nn.ReLU(),
            ]
        layers += [nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Return the images of latents ``z``."""
        return self.main(z)


class Critic(nn.Module):
    """Images (n, 3, 32, 32) to logits (n, 1)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 8),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return one logit an image."""
        return self.main(images)


def build_generator() -> nn.Module:
    """What ``gancompress prune dcgan:build_generator`` calls."""
    torch.manual_seed(0)
    return DCGAN()


def build_discriminator() -> nn.Module:
    """What ``--discriminator dcgan:build_discriminator`` calls."""
    torch.manual_seed(1)
    return Critic()
