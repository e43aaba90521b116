"""The gains of the norms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES, ranked
from gancompress.masks.importances.magnitude import magnitude
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("norm_scale")
def norm_scale(
    group: Group,
    mask: ChannelMask,
    tensors: Mapping[str, Tensor],
    seed: int,
    *,
    ranks: bool = True,
) -> np.ndarray:
    """Ranks of |gamma| of the norms that carry the channels (network slimming); else magnitude.

    With ``ranks: false`` the values themselves, over the group's mean (ours): gains and magnitudes
    have no common scale.
    """
    found = [
        tensors[n].detach().abs().double().cpu().numpy()[index].sum(1)
        for (n, _), index in group.slots.items()
        if tensors[n].dim() == 1 and n.rsplit(".", 1)[-1] in ("weight", "gain", "gamma")
    ]
    if not found:
        return magnitude(group, mask, tensors, seed, ranks=ranks)
    total = np.sum(found, axis=0)
    return ranked(total, mask) if ranks else total / max(total.mean(), 1e-30) + 1e-9
