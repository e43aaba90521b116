"""Sparsity of network slimming."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES


@PENALTIES.register("l1")
def l1(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """Mean absolute score of living channels (sparsity of network slimming, Liu et al. 2017)."""
    total = torch.stack([(m.scores.abs() * m.alive).sum() for m in masks]).sum()
    # By what is alive, not by size: a live cut must not change the loss.
    return total / torch.stack([m.alive.sum() for m in masks]).sum()
