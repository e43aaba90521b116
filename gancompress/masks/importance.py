"""Importances: which channels are worth keeping, as one positive number a channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.mask import ChannelMask
from gancompress.plugins.kinds import IMPORTANCES

Importance = Callable[[Group, ChannelMask, Mapping[str, Tensor], int], np.ndarray]
"""(group, its mask, raw tensors by name, seed) -> float64 (c,), larger is better."""


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


@IMPORTANCES.register("scores")
def learned_scores(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """The learned scores, as ranks within the group (ours)."""
    return ranked(mask.scores.detach().double().cpu().numpy(), mask)


@IMPORTANCES.register("fisher")
def fisher(group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int) -> np.ndarray:
    """Mean squared gradient of the training loss by the gate (Theis et al. 2018, Eq. 8).

    Comparable across groups; falls back to magnitude until a gradient was seen.
    """
    seen = mask.sensitivity.detach().double().cpu().numpy()
    if not seen.any():
        return magnitude(group, mask, tensors, seed)
    return seen + 1e-3 * seen.mean()


@IMPORTANCES.register("learned_fisher")
def learned_fisher(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """Sensitivity times learned score, as ranks within the group: the loss speaks twice (ours)."""
    scores = torch.nn.functional.softplus(4 * mask.scores.detach().double()).cpu().numpy()
    return ranked(fisher(group, mask, tensors, seed) * scores, mask)


@IMPORTANCES.register("magnitude")
def magnitude(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """Ranks of `channel_norm` within the group."""
    return ranked(channel_norm(group, tensors), mask)


def channel_norm(group: Group, tensors: Mapping[str, Tensor]) -> np.ndarray:
    """L2 norm of all that a channel owns, over the group's mean (Li et al. 2017, grouped)."""
    total = np.zeros(group.size)
    for (name, dim), index in group.slots.items():
        t = tensors[name].detach()
        if not t.is_floating_point():
            continue
        square = t.double().pow(2).movedim(dim, 0).reshape(t.shape[dim], -1).mean(1).cpu().numpy()
        mean = square.mean()
        if mean > 0:
            total += square[index].sum(1) / mean
    norm = np.sqrt(total)
    return norm / norm.mean() if norm.any() else np.ones(group.size)


@IMPORTANCES.register("random")
def random_order(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """A fixed random order: the control every method must beat."""
    import zlib

    rng = np.random.default_rng([seed, zlib.crc32(group.name.encode())])
    return rng.uniform(0.5, 1.5, group.size)


@IMPORTANCES.register("norm_scale")
def norm_scale(
    group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
) -> np.ndarray:
    """Ranks of |gamma| of the norms that carry the channels (network slimming); else magnitude."""
    found = [
        tensors[n].detach().abs().double().cpu().numpy()[index].sum(1)
        for (n, _), index in group.slots.items()
        if tensors[n].dim() == 1 and n.rsplit(".", 1)[-1] in ("weight", "gain", "gamma")
    ]
    if not found:
        return magnitude(group, mask, tensors, seed)
    return ranked(np.sum(found, axis=0), mask)
