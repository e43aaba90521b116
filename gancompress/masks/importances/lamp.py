"""Magnitude against all that is larger."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES, channel_norm
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("lamp")
def lamp(group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int) -> np.ndarray:
    """Squared norm over the sum of it and of all larger ones (LAMP, Lee et al. 2021, eq. 4).

    Of channels, with the norm over all that a channel owns, where LAMP scores single weights. In
    (0, 1], the largest of a group at 1, and comparable across groups.
    """
    square = channel_norm(group, tensors) ** 2 + 1e-12
    square = np.where(mask.alive.cpu().numpy(), square, 1e-12)
    order = np.argsort(square, kind="stable")
    found = np.empty(group.size)
    found[order] = square[order] / np.cumsum(square[order][::-1])[::-1]
    return found
