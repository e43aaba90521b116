"""The size of a channel's weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES, channel_norm, ranked
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("magnitude")
def magnitude(
    group: Group,
    mask: ChannelMask,
    tensors: Mapping[str, Tensor],
    seed: int,
    *,
    ranks: bool = True,
) -> np.ndarray:
    """Ranks of `channel_norm` within the group; with ``ranks: false`` the norm itself."""
    norm = channel_norm(group, tensors)
    return ranked(norm, mask) if ranks else norm + 1e-9
