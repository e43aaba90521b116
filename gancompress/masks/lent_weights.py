"""What the channels of a mask own, lent to a penalty while it looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gancompress.graph.groups import ChannelGraph
from gancompress.masks.mask import ChannelMask


@contextmanager
def lend(
    masks: Sequence[ChannelMask], graph: ChannelGraph, tensors: Mapping[str, Tensor]
) -> Iterator[None]:
    """Give each mask its channels' parameters, of ``tensors`` by name, for a while (ours).

    Only for a while, since a copy of a generator copies its masks and what these hold. Without
    ``tensors`` nothing is lent.
    """
    for mask in masks if tensors else ():
        mask.lent = tuple(
            (name, dim, torch.from_numpy(index).to(tensors[name].device), tensors[name])
            for (name, dim), index in graph[mask.name].slots.items()
            if isinstance(tensors[name], nn.Parameter) and tensors[name].is_floating_point()
        )
    try:
        yield
    finally:
        for mask in masks:
            mask.lent = ()


def channel_norms(mask: ChannelMask) -> Tensor:
    """Return the L2 norm of everything that each channel owns, (c,), differentiable."""
    total = mask.scores.new_zeros(mask.size)
    for _, dim, index, tensor in mask.lent:
        rows = tensor.square().movedim(dim, 0).reshape(tensor.shape[dim], -1).sum(1)
        total = total + rows[index].sum(1).to(total)
    return (total + 1e-12).sqrt()


def gains(mask: ChannelMask) -> Tensor | None:
    """Return the sum of |gain| of the norms that carry each channel, (c,); ``None``: no norm."""
    found = [
        tensor.abs()[index].sum(1)
        for name, _, index, tensor in mask.lent
        if tensor.dim() == 1 and name.rpartition(".")[2] in ("weight", "gain", "gamma")
    ]
    return torch.stack(found).sum(0).to(mask.scores) if found else None
