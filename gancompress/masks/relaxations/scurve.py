"""DMAD's annealed S-curve, and the band that it shares with DMAD's penalty."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.masks.relax import RELAXATIONS, band


@RELAXATIONS.register("scurve", hard_from=0.75)
def s_curve(scores: Tensor, progress: float) -> Tensor:
    """DMAD's annealed S-curve (Li et al. 2020): half-width b = 1 - (t / 0.75)^(1/3), then a step.

    A score that has left the band [-b, b] gets no gradient any more, so it stays settled. Under a
    target the gates of living channels do not close (ours, see `ChannelMask.held_open`): they lie
    between 0.55 and 1, where DMAD's reach 0, and the schedule alone removes channels.
    """
    b = band(progress)
    if b <= 0:
        return (scores > 0).to(scores.dtype)
    rising = (scores + b) ** 2 / (2 * b * b)
    falling = 1 - (b - scores) ** 2 / (2 * b * b)
    inside = torch.where(scores <= 0, rising, falling)
    return torch.where(scores < -b, 0.0, torch.where(scores > b, 1.0, inside))
