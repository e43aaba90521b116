"""Brightness, saturation and contrast."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.training.augment import AUGMENTATIONS, uniform


@AUGMENTATIONS.register("color")
def color(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shift brightness by +-0.5, scale saturation by 0..2 and contrast by 0.5..1.5 (section 4).

    Saturation leaves grey images as they are.
    """
    n = len(images)
    images = images + (uniform(n, rng, images) - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (uniform(n, rng, images) * 2) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (uniform(n, rng, images) + 0.5) + mean
