"""What the discriminator is shown as real: images of the data, or the teacher's samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.data.arrays import Dataset
from gancompress.data.inputs import InputSampler
from gancompress.recipes.schema import Recipe
from gancompress.training.order import batch_indices


@dataclass(frozen=True)
class Reals:
    """Draws the real batch of a step; which one is a function of (seed, number) alone (ours).

    Attributes:
        recipe: batch size, seed, and what counts as real.
        dataset: the images; without, or if the recipe asks, ``source``'s samples are used.
        source: the frozen teacher.
        sampler: draws its inputs.
        arithmetic: opens the precision to compute in.
        device: where the batch goes.
        layout: its memory format.
    """

    recipe: Recipe
    dataset: Dataset | None
    source: nn.Module
    sampler: InputSampler
    arithmetic: Callable[[], AbstractContextManager[Any]]
    device: torch.device
    layout: torch.memory_format

    def batch(self, number: int, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return images (batch, channels, height, width) in [-1, 1] and their labels, if any."""
        recipe = self.recipe
        if self.dataset is not None and recipe.discriminator.real != "teacher":
            picked = batch_indices(
                len(self.dataset), batch=recipe.batch, seed=recipe.seed, step=number
            )
            real, labels = self.dataset.batch(picked)
        else:
            drawn = tuple(part.to(self.device) for part in self.sampler(recipe.batch, rng))
            labels = self.sampler.labels(drawn)
            with torch.no_grad(), self.arithmetic():
                real = self.sampler.image(self.source(*drawn))
        layout = self.layout if real.dim() == 4 else torch.preserve_format
        return real.to(self.device, memory_format=layout), labels
