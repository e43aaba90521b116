"""What an importance is, and the two measures that several of them share.

They live in `gancompress.masks.importances`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor, nn

from gancompress.graph.groups import Group
from gancompress.masks.mask import ChannelMask
from gancompress.plugins.kinds import IMPORTANCES as IMPORTANCES

Importance = Callable[[Group, ChannelMask, Mapping[str, Tensor], int], np.ndarray]
"""(group, its mask, raw tensors by name, seed) -> float64 (c,), positive, larger is better."""


def ranked(values: np.ndarray, mask: ChannelMask) -> np.ndarray:
    """Spread the living channels of a group over (0.5, 1.5], in the order of ``values`` (ours).

    Norms and scores order the channels of one group; their spread says nothing about how one group
    compares with another, and a group with a long tail would lose most of its channels. With ranks
    every group is valued alike, and cost decides where to remove.
    """
    alive = mask.alive.cpu().numpy()
    made = np.full(len(values), 0.5)
    order = np.argsort(values[alive], kind="stable")
    rank = np.empty(len(order))
    rank[order] = np.arange(1, len(order) + 1)
    made[alive] = 0.5 + rank / max(len(order), 1)
    return made


def channel_norm(group: Group, tensors: Mapping[str, Tensor]) -> np.ndarray:
    """L2 norm of the parameters of a channel, over the group's mean (Li et al. 2017, grouped).

    Li et al. take the L1 norm of a filter; L2, and each tensor relative to its own mean, are ours.
    Buffers are no weights: statistics of a norm and the vectors of a spectral norm do not count.
    """
    total = np.zeros(group.size)
    for (name, dim), index in group.slots.items():
        t = tensors[name]
        if not isinstance(t, nn.Parameter) or not t.is_floating_point():
            continue
        t = t.detach()
        square = t.double().pow(2).movedim(dim, 0).reshape(t.shape[dim], -1).mean(1).cpu().numpy()
        mean = square.mean()
        if mean > 0:
            total += square[index].sum(1) / mean
    norm = np.sqrt(total)
    return norm / norm.mean() if norm.any() else np.ones(group.size)
