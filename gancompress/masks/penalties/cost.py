"""What the open channels cost the network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES


@PENALTIES.register("cost")
def expected_cost(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """Sum of open gates times the share of the network's cost one channel has now (ours).

    A parameter target then presses on the layers that hold the parameters, a MACs target on those
    that do the work. With everything open the value is between 0 and 2: a weight counts once for
    each of its dimensions that can lose channels. All channels of a group have the same price, so
    this lowers the scores of a group together: it tells groups apart, never two channels of one.
    """
    gates = [m.gate(watched=False).sum() * p for m, p in zip(masks, price, strict=True)]
    return torch.stack(gates).sum()
