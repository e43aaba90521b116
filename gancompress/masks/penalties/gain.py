"""Sparsity of the norms' gains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gancompress.masks.lent_weights import channel_norms, gains
from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES


@PENALTIES.register("gain", weights=True)
def gain_sparsity(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """Mean |gain| of the norms of living channels (Liu et al. 2017; GAN Slimming).

    A subgradient here; GAN Slimming (Wang et al. 2020) takes a proximal step. Channels that no norm
    with a gain of its own carries (conditional norms, layers without a norm) count with the norm of
    all they own.
    """
    total: list[Tensor] = []
    for mask in masks:
        own = gains(mask)
        total.append(((channel_norms(mask) if own is None else own) * mask.alive).sum())
    return torch.stack(total).sum() / torch.stack([m.alive.sum() for m in masks]).sum()
