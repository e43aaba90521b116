"""Hard concrete gates."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gancompress.masks.relax import RELAXATIONS


@RELAXATIONS.register("hard_concrete")
def hard_concrete(
    scores: Tensor,
    progress: float,
    *,
    temperature: Annotated[float, Field(gt=0.0)] = 2 / 3,
    stretch: Annotated[float, Field(ge=0.0)] = 0.1,
) -> Tensor:
    """Hard concrete gates (Louizos et al. 2018, Eq. 10-11): stretched to (-0.1, 1.1), clamped.

    Draws from torch's global generator while gradients are on; without them (or at the end) the
    gate is the hard decision ``scores > 0``, where the paper's gate at test time is the clamped,
    stretched sigmoid of the scores. Its L0 penalty is not here: the penalty is chosen apart. A
    living channel may be drawn closed for a step, under a target as well.
    """
    if progress >= 1 or not torch.is_grad_enabled():
        return (scores > 0).to(scores.dtype)
    u = torch.rand_like(scores).clamp(1e-6, 1 - 1e-6)
    s = torch.sigmoid((u.log() - (1 - u).log() + scores) / temperature)
    return (s * (1 + 2 * stretch) - stretch).clamp(0, 1)
