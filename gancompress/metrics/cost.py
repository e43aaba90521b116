"""What a network costs: parameters, multiply-accumulates and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.errors import DataError
from gancompress.modules.undisturbed import evaluating


@dataclass(frozen=True)
class Footprint:
    """Size of a network; ``macs`` is for one image and counts FLOPs / 2.

    MACs cover convolutions and matrix products (``torch.utils.flop_counter``); normalisation,
    activation and resampling are not counted.
    """

    params: int
    macs: int
    bytes: int


def state_bytes(module: nn.Module) -> int:
    """Return the bytes of parameters and buffers, shared ones once (no file header)."""
    tensors = {(t.data_ptr(), t.shape, t.stride()): t for t in module.state_dict().values()}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def footprint(module: nn.Module, example: Sequence[object]) -> Footprint:
    """Measure ``module`` on the arguments ``example``; the first tensor's first axis is the batch.

    MACs are what one more image costs: work on weights alone (the products of spectral norm), which
    a batch of any size pays once, is left out, as in `ChannelGraph.cost`.

    Raises:
        DataError: the example holds no tensor with a batch axis.
    """
    batched = next((a for a in example if isinstance(a, Tensor) and a.ndim > 0), None)
    if batched is None or len(batched) == 0:
        raise DataError("the example needs a tensor argument with a batch axis of at least 1")
    n = len(batched)
    once = _flops(module, example)
    twice = [
        torch.cat([a, a]) if isinstance(a, Tensor) and a.ndim > 0 and len(a) == n else a
        for a in example
    ]
    try:
        more = _flops(module, twice)
    except Exception:  # a network of one batch size: what the batch shares cannot be told apart
        more = 2 * once
    flops = more - once if more > once else once
    return Footprint(
        params=sum(p.numel() for p in module.parameters()),
        macs=round(flops / 2 / n),
        bytes=state_bytes(module),
    )


def _flops(module: nn.Module, example: Sequence[object]) -> int:
    counter = FlopCounterMode(display=False)
    with evaluating(module), torch.no_grad(), counter:
        module(*example)
    return counter.get_total_flops()
