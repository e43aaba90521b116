"""Random shifts."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from gancompress.training.augment import AUGMENTATIONS, shifts


@AUGMENTATIONS.register("translation")
def translation(
    images: Tensor,
    rng: torch.Generator,
    *,
    ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.125,
    fill: float = -1.0,
) -> Tensor:
    """Shift by up to ``ratio`` of the side each way, to the nearest pixel, filled with ``fill``.

    The original fills with 0, its grey; pictures on black ground would get a grey frame, so -1, the
    edge of the value range, is ours. A side too short for one pixel is not shifted, as there.
    """
    n, _, h, w = images.shape
    # The public code's rounding: half a pixel counts as one.
    dy, dx = int(h * ratio + 0.5), int(w * ratio + 0.5)
    rows = shifts(n, dy, rng, images) + torch.arange(h, device=images.device) + dy
    columns = shifts(n, dx, rng, images) + torch.arange(w, device=images.device) + dx
    framed = functional.pad(images, (dx, dx, dy, dy), value=fill)
    sample = torch.arange(n, device=images.device)[:, None, None]
    return framed.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )
