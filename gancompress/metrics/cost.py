"""What a network costs: parameters, multiply-accumulates and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.errors import DataError
from gancompress.metrics.modes import evaluating


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

    Raises:
        DataError: the example holds no tensor with a batch axis.
    """
    batched = next((a for a in example if isinstance(a, Tensor) and a.ndim > 0), None)
    if batched is None or len(batched) == 0:
        raise DataError("the example needs a tensor argument with a batch axis of at least 1")
    counter = FlopCounterMode(display=False)
    with evaluating(module), torch.no_grad(), counter:
        module(*example)
    return Footprint(
        params=sum(p.numel() for p in module.parameters()),
        macs=round(counter.get_total_flops() / 2 / len(batched)),
        bytes=state_bytes(module),
    )
