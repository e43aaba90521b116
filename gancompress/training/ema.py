"""Exponential moving average of a generator, buffers included."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, *, decay: float) -> None:
    """Move ``average`` towards ``module`` by ``1 - decay``, parameters and float buffers alike.

    Norm statistics are averaged too, else the averaged weights would be read with the statistics
    of another network; integer buffers are copied. ``decay`` 0 copies everything (ours; the same
    rule as BigGAN's).

    Raises:
        ValueError: the two networks do not hold the same tensors.
    """
    targets = dict(average.named_parameters()) | dict(average.named_buffers())
    sources = dict(module.named_parameters()) | dict(module.named_buffers())
    if targets.keys() != sources.keys():
        odd = sorted(targets.keys() ^ sources.keys())[:3]
        raise ValueError(f"the average and the network differ in {odd}")
    floating = [name for name, tensor in sources.items() if tensor.is_floating_point()]
    into, from_ = [targets[name] for name in floating], [sources[name] for name in floating]
    if decay == 0.0:
        torch._foreach_copy_(into, from_)
    else:
        torch._foreach_lerp_(into, from_, 1.0 - decay)
    for name in sources.keys() - set(floating):
        targets[name].copy_(sources[name])
