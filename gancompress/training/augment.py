"""Differentiable augmentation of what the discriminator sees (DiffAugment, Zhao et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gancompress.plugins.kinds import AUGMENTATIONS

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""(images (n, c, h, w), CPU generator) -> images of the same shape, differentiable."""


def augment(images: Tensor, names: Sequence[str], rng: torch.Generator) -> Tensor:
    """Apply the augmentations ``names`` in order, each image with draws of its own.

    Real and fake images must both pass through here, and the gradient of the generator too: an
    augmentation of real images alone would teach the generator to make augmented ones.
    """
    for name in names:
        images = AUGMENTATIONS.get(name)(images, rng)
    return images


@AUGMENTATIONS.register("color")
def color(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shift brightness by +-0.5, scale saturation by 0..2 and contrast by 0.5..1.5 (section 4).

    Saturation leaves grey images as they are.
    """
    n = len(images)
    images = images + (_uniform(n, rng, images) - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (_uniform(n, rng, images) * 2) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (_uniform(n, rng, images) + 0.5) + mean


@AUGMENTATIONS.register("translation")
def translation(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shift by up to 1/8 of the side each way, filled with the edge of the value range, -1.

    The original fills with 0, its grey; pictures on black ground would get a grey frame (ours).
    """
    n, _, h, w = images.shape
    dy, dx = max(1, h // 8), max(1, w // 8)
    rows = _shifts(n, dy, rng, images) + torch.arange(h, device=images.device) + dy
    columns = _shifts(n, dx, rng, images) + torch.arange(w, device=images.device) + dx
    framed = functional.pad(images, (dx, dx, dy, dy), value=-1.0)
    sample = torch.arange(n, device=images.device)[:, None, None]
    return framed.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


@AUGMENTATIONS.register("cutout")
def cutout(images: Tensor, rng: torch.Generator) -> Tensor:
    """Blank a square of half the side at a random place, which may reach over the edge."""
    n, _, h, w = images.shape
    inside = []
    for size in (h, w):
        centre = torch.randint(0, size + 1, (n, 1), generator=rng).to(images.device)
        offset = torch.arange(size, device=images.device) - centre
        inside.append((offset >= -(size // 4)) & (offset < size - size // 2 - size // 4))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return images.masked_fill(hole[:, None], 0.0)


def _uniform(n: int, rng: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(n, 1, 1, 1, generator=rng).to(like.device, like.dtype)


def _shifts(n: int, most: int, rng: torch.Generator, like: Tensor) -> Tensor:
    return torch.randint(-most, most + 1, (n, 1), generator=rng).to(like.device)
