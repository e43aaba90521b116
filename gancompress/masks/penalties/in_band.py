"""DMAD's sparsity loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES
from gancompress.masks.relax import band


@PENALTIES.register("band")
def in_band(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """DMAD's sparsity loss: sum of (m + b) over scores inside the band [-b, b] (Li et al. 2020)."""
    terms: list[Tensor] = []
    for m in masks:
        b = band(m._progress)
        inside = (m.scores.detach().abs() <= b) & m.alive
        terms.append(((m.scores + b) * inside).sum())
    return torch.stack(terms).sum()
