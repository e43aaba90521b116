"""What removing a channel would cost the loss, to second order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES
from gancompress.masks.importances.magnitude import magnitude
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("fisher")
def fisher(group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int) -> np.ndarray:
    """Mean squared gradient of the training loss by the gate (after Theis et al. 2018, Eq. 8).

    Theirs is the mean over samples of squared gradients; one backward pass gives the gradient of
    the batch's mean loss only, so this squares that, each step relative to the gradient by all
    gates (ours, see `observe`). Comparable across groups; magnitude until a gradient was seen.
    """
    seen = mask.sensitivity.detach().double().cpu().numpy()
    if not seen.any():
        return magnitude(group, mask, tensors, seed)
    return seen + 1e-3 * seen.mean()
