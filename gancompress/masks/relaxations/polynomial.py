"""Piecewise-quadratic surrogate of the sign."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.masks.relax import RELAXATIONS


@RELAXATIONS.register("polynomial", hard_from=0.0)
def polynomial_sign(scores: Tensor, progress: float) -> Tensor:
    """Hard gate with the piecewise-quadratic backward of PDD (Dan et al. 2024): window [-1, 1]."""
    s = scores.clamp(-1, 1)
    soft = torch.where(s < 0, s * s + 2 * s, 2 * s - s * s) / 2 + 0.5
    hard = (scores > 0).to(scores.dtype)
    return hard + (soft - soft.detach())
