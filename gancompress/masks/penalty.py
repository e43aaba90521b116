"""Penalties: what an open channel costs the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gancompress.masks.mask import ChannelMask
from gancompress.masks.relax import band
from gancompress.plugins.kinds import PENALTIES

Penalty = Callable[[Sequence[ChannelMask], Sequence[float]], Tensor]
"""(masks, relative cost of one channel of each) -> scalar."""


@PENALTIES.register("cost")
def expected_cost(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """Sum of open gates times the share of the network's cost one channel has now (ours).

    A parameter target then presses on the layers that hold the parameters, a MACs target on those
    that do the work. With everything open the value is between 0 and 2: a weight counts once for
    each of its dimensions that can lose channels.
    """
    gates = [m.gate(watched=False).sum() * p for m, p in zip(masks, price, strict=True)]
    return torch.stack(gates).sum()


@PENALTIES.register("l1")
def l1(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """Mean absolute score of living channels (sparsity of network slimming, Liu et al. 2017)."""
    total = torch.stack([(m.scores.abs() * m.alive).sum() for m in masks]).sum()
    # By what is alive, not by size: a live cut must not change the loss.
    return total / torch.stack([m.alive.sum() for m in masks]).sum()


@PENALTIES.register("band")
def in_band(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """DMAD's sparsity loss: sum of (m + b) over scores inside the band [-b, b] (Li et al. 2020)."""
    terms = []
    for m in masks:
        b = band(m._progress)
        inside = (m.scores.detach().abs() <= b) & m.alive
        terms.append(((m.scores + b) * inside).sum())
    return torch.stack(terms).sum()


@PENALTIES.register("none")
def no_penalty(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """No pressure: importance and schedule alone decide."""
    return masks[0].scores.new_zeros(())
