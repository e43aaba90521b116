"""What an augmentation is: a differentiable change of what the discriminator sees.

They live in `gancompress.training.augmentations` (DiffAugment, Zhao et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gancompress.plugins.kinds import AUGMENTATIONS as AUGMENTATIONS

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""(images (n, c, h, w), CPU generator) -> images of the same shape, differentiable."""


def augment(images: Tensor, entries: Sequence[Any], rng: torch.Generator) -> Tensor:
    """Apply augmentations in order, each image with draws of its own.

    Real and fake images must both pass through here, and the gradient of the generator too: an
    augmentation of real images alone would teach the generator to make augmented ones.

    Args:
        images: (n, c, h, w).
        entries: each a name, a name with options (``recipe.augment``), or a function.
        rng: CPU generator of all draws.

    Raises:
        ConfigError: an unknown name or option.
    """
    for entry in entries:
        images = AUGMENTATIONS.bind(entry)(images, rng)
    return images


def uniform(n: int, rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw (n, 1, 1, 1) numbers in [0, 1), of the type and on the device of ``like``."""
    here = _on(like.device, rng)
    return torch.rand(n, 1, 1, 1, generator=here, device=like.device).to(like.dtype)


def shifts(n: int, most: int, rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw (n, 1) whole numbers from -most to most, on the device of ``like``."""
    return whole_numbers(n, -most, most + 1, rng, like)


def whole_numbers(n: int, low: int, high: int, rng: torch.Generator, like: Tensor) -> Tensor:
    """Draw (n, 1) whole numbers from low to high - 1, on the device of ``like``."""
    here = _on(like.device, rng)
    return torch.randint(low, high, (n, 1), generator=here, device=like.device)


def _on(device: torch.device, rng: torch.Generator) -> torch.Generator:
    """Return ``rng``, or on another device a generator seeded by its next number.

    Drawn here and copied there, each handful of numbers would stall the device.
    """
    if device.type == "cpu":
        return rng
    seed = torch.randint(2**62, (), generator=rng, dtype=torch.int64)
    return torch.Generator(device).manual_seed(int(seed))
