"""Group lasso on the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gancompress.masks.lent_weights import channel_norms
from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES


@PENALTIES.register("group_lasso", weights=True)
def group_lasso(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """Mean L2 norm of what a living channel owns (group lasso, Wen et al. 2016, eq. 2).

    Over whole channel groups, as torch-pruning has it (Fang et al. 2023). Behind a norm of weights
    the scale of a whole layer does not matter, and only channels against each other shrink.
    """
    total = torch.stack([(channel_norms(m) * m.alive).sum() for m in masks]).sum()
    return total / torch.stack([m.alive.sum() for m in masks]).sum()
