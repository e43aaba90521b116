"""Sensitivity and learned score together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor
from torch.nn import functional

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES, ranked
from gancompress.masks.importances.fisher import fisher
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("learned_fisher")
def learned_fisher(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """Sensitivity times learned score, as ranks within the group: the loss speaks twice (ours)."""
    scores = functional.softplus(4 * mask.scores.detach().double()).cpu().numpy()
    return ranked(fisher(group, mask, tensors, seed) * scores, mask)
