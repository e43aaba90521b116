"""The learned scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES, ranked
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("scores")
def learned_scores(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """The learned scores, as ranks within the group (ours)."""
    return ranked(mask.scores.detach().double().cpu().numpy(), mask)
