"""The control."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("random")
def random_order(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """A fixed random order: the control every method must beat."""
    rng = np.random.default_rng([seed, zlib.crc32(group.name.encode())])
    return rng.uniform(0.5, 1.5, group.size)
