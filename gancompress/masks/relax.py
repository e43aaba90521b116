"""Relaxations: differentiable surrogates of the 0/1 choice of a channel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gancompress.plugins.kinds import RELAXATIONS

Relaxation = Callable[[Tensor, float], Tensor]
"""(scores (c,), progress in [0, 1]) -> gate values in [0, 1], shape (c,)."""

HARD_FROM = {"ste": 0.0, "polynomial": 0.0, "scurve": 0.75}
"""Progress from which the gates of a relaxation are 0 or 1 in the forward; others: at the end."""


@RELAXATIONS.register("ste")
def straight_through(scores: Tensor, progress: float) -> Tensor:
    """Hard gate ``scores > 0`` whose gradient passes straight through (Bengio et al. 2013).

    The score then integrates the task's gradient of its gate, so it stays high where the loss needs
    the channel and sinks under the penalty where it does not.
    """
    hard = (scores > 0).to(scores.dtype)
    return hard + (scores - scores.detach())


@RELAXATIONS.register("polynomial")
def polynomial_sign(scores: Tensor, progress: float) -> Tensor:
    """Hard gate with the piecewise-quadratic backward of PDD (Dan et al. 2024): window [-1, 1]."""
    s = scores.clamp(-1, 1)
    soft = torch.where(s < 0, s * s + 2 * s, 2 * s - s * s) / 2 + 0.5
    hard = (scores > 0).to(scores.dtype)
    return hard + (soft - soft.detach())


@RELAXATIONS.register("scurve")
def s_curve(scores: Tensor, progress: float) -> Tensor:
    """DMAD's annealed S-curve (Li et al. 2020): half-width b = 1 - (t / 0.75)^(1/3), then a step.

    A score that has left the band [-b, b] gets no gradient any more, so it stays settled.
    """
    b = band(progress)
    if b <= 0:
        return (scores > 0).to(scores.dtype)
    rising = (scores + b) ** 2 / (2 * b * b)
    falling = 1 - (b - scores) ** 2 / (2 * b * b)
    inside = torch.where(scores <= 0, rising, falling)
    return torch.where(scores < -b, 0.0, torch.where(scores > b, 1.0, inside))


def band(progress: float) -> float:
    """Half-width of DMAD's band: 1 at the start, 0 from three quarters on."""
    return max(0.0, 1 - (min(progress, 0.75) / 0.75) ** (1 / 3))


@RELAXATIONS.register("sigmoid")
def annealed_sigmoid(scores: Tensor, progress: float) -> Tensor:
    """sigmoid(scores * beta) with beta from 2 to 200 on a log scale; a step at the end (ours)."""
    if progress >= 1:
        return (scores > 0).to(scores.dtype)
    return torch.sigmoid(scores * 2 * 100**progress)


@RELAXATIONS.register("hard_concrete")
def hard_concrete(scores: Tensor, progress: float) -> Tensor:
    """Hard concrete gates (Louizos et al. 2018): stretch (-0.1, 1.1), temperature 2/3.

    Draws from torch's global generator while gradients are on; without them (or at the end) the
    gate is the hard decision ``scores > 0``.
    """
    if progress >= 1 or not torch.is_grad_enabled():
        return (scores > 0).to(scores.dtype)
    u = torch.rand_like(scores).clamp(1e-6, 1 - 1e-6)
    s = torch.sigmoid((u.log() - (1 - u).log() + scores) / (2 / 3))
    return (s * 1.2 - 0.1).clamp(0, 1)
