"""What reacts to noise on the content of an image."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gancompress.data.order import stream
from gancompress.training.score import SCORES, Look


@SCORES.register("content_aware")
def content_aware(
    look: Look,
    *,
    samples: Annotated[int, Field(ge=1)] = 64,
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05,
    region: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0,
) -> dict[str, np.ndarray]:
    """Mean |gradient| of the L1 distance to the image with salt and pepper on its content (CAGAN).

    Liu et al. 2021, section 3.2: ``share`` of the places in the content become black or white, and
    the distance of the clean image to that one is followed back to the weights that read each
    channel. Their content is what a face parser finds; here the middle, ``region`` of each side.
    """
    total: dict[str, np.ndarray] = {}
    rng = stream(look.seed, "salt and pepper")
    for batch in look.batches(samples):
        images = look.images(batch)
        noisy = salted(images.detach(), share, region, rng)
        for name, values in look.slopes((images - noisy).abs().sum() / len(images)).items():
            total[name] = total.get(name, 0.0) + values * len(images)
    return total


def salted(images: Tensor, share: float, region: float, rng: torch.Generator) -> Tensor:
    """Return images (n, c, *space) with ``share`` of the places in their middle at an extreme."""
    space = images.shape[2:]
    inside = torch.ones(space, dtype=torch.bool)
    for dim, side in enumerate(space):
        edge = int(side * (1 - region) / 2)
        place = torch.arange(side)
        shape = [-1 if d == dim else 1 for d in range(len(space))]
        inside &= ((place >= edge) & (place < side - edge)).view(shape)
    drawn = torch.rand((len(images), 1, *space), generator=rng)
    hit = (drawn < share) & inside
    low, high = images.amin(), images.amax()
    extreme = torch.where((drawn < share / 2).to(images.device), low, high)
    return torch.where(hit.to(images.device), extreme.expand_as(images), images)
