"""A sigmoid that becomes a step."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gancompress.masks.relax import RELAXATIONS

Slope = Annotated[float, Field(gt=0.0)]


@RELAXATIONS.register("sigmoid")
def annealed_sigmoid(
    scores: Tensor, progress: float, *, start: Slope = 2.0, end: Slope = 200.0
) -> Tensor:
    """sigmoid(scores * beta), beta from ``start`` to ``end`` on a log scale, then a step (ours)."""
    if progress >= 1:
        return (scores > 0).to(scores.dtype)
    return torch.sigmoid(scores * start * (end / start) ** progress)
