"""The learned scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor
from torch.nn import functional

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES, ranked
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("scores")
def learned_scores(
    group: Group,
    mask: ChannelMask,
    tensors: Mapping[str, Tensor],
    seed: int,
    *,
    ranks: bool = True,
) -> np.ndarray:
    """The learned scores, as ranks within the group (ours); with ``ranks: false`` as they are.

    As they are they compare groups with one another only where they began so (a score that ranks
    across groups, `residual`). Positive all the same: softplus(4 s), which keeps their order.
    """
    scores = mask.scores.detach().double().cpu()
    return ranked(scores.numpy(), mask) if ranks else functional.softplus(4 * scores).numpy()
