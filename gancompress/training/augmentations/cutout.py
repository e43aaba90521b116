"""Random holes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gancompress.training.augment import AUGMENTATIONS, whole_numbers


@AUGMENTATIONS.register("cutout")
def cutout(
    images: Tensor,
    rng: torch.Generator,
    *,
    ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5,
) -> Tensor:
    """Blank a square of ``ratio`` of the side at a random place, which may reach over the edge."""
    n, _, h, w = images.shape
    inside: list[Tensor] = []
    for side in (h, w):
        # As the public code: a hole of `hole` pixels, its middle anywhere on the picture or, for a
        # hole of even size, one beyond.
        hole = int(side * ratio + 0.5)
        centre = whole_numbers(n, 0, side + (1 - hole % 2), rng, images)
        offset = torch.arange(side, device=images.device) - centre
        inside.append((offset >= -(hole // 2)) & (offset < hole - hole // 2))
    blank = inside[0][:, :, None] & inside[1][:, None, :]
    return images.masked_fill(blank[:, None], 0.0)
