"""After a live cut: masks and the optimiser state of their scores go on where they were."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gancompress.masks.mask import ChannelMask

Carried = Mapping[str, tuple[str, np.ndarray]]
"""New group to (old group, the old number of each of its channels)."""


def cuttable(mask: ChannelMask) -> list[int]:
    """Return what a live cut keeps: the living channels, two at least while the mask still learns.

    A group of one channel has no mask any more, so its gate would silently become 1.
    """
    alive = mask.living
    if mask.decides and alive.sum() < 2:
        alive[np.flatnonzero(~alive)[:1]] = True
    return np.flatnonzero(alive).tolist()


def decided(mask: ChannelMask, *, least: int) -> list[int]:
    """Return what a plan made now keeps: the open channels, the best ``least`` at least."""
    kept = mask.hard().bool()
    floor = min(least, mask.size)
    if int(kept.sum()) < floor:
        # The dead come last: none comes back while a living one is left.
        value = mask.scores.detach().masked_fill(~mask.alive, -torch.inf)
        best = torch.argsort(value, descending=True)[:floor]
        kept = kept.clone()
        kept[best] = True
    return torch.nonzero(kept).flatten().tolist()


def carry_masks(
    old: Mapping[str, ChannelMask], carried: Carried, chosen: Mapping[str, ChannelMask]
) -> dict[str, ChannelMask]:
    """Return masks for the cut network that hold what the old ones held for the same channels.

    Which channels live is taken from ``chosen``, the masks in training: an averaged choice is none.
    """
    new = {}
    for name, (source, channels) in carried.items():
        if source not in old:
            continue
        before = old[source]
        # Dtype too: a float64 generator has float64 scores.
        mask = ChannelMask(name, len(channels), before.relaxation, held_open=before.held_open).to(
            before.scores
        )
        index = torch.from_numpy(channels).to(before.scores.device)
        with torch.no_grad():
            mask.scores.copy_(before.scores[index])
            mask.sensitivity.copy_(before.sensitivity[index])
            mask.alive.copy_(chosen[source].alive[index])
            mask.progress.copy_(before.progress)
            mask.settled.copy_(before.settled)
            if before.scores.grad is not None:
                mask.scores.grad = before.scores.grad[index].clone()
            if before._gradient is not None:
                mask._gradient = before._gradient[index]
        mask.sync()
        mask.scores.requires_grad_(before.scores.requires_grad)
        mask.train(before.training)
        new[name] = mask
    return new


def carry_scores(
    optimizer: torch.optim.Optimizer,
    old: Mapping[str, ChannelMask],
    new: Mapping[str, ChannelMask],
    carried: Carried,
) -> None:
    """Re-bind an optimiser from the old scores to the new ones, with their state sliced."""
    swap: dict[int, tuple[Tensor, Tensor]] = {}
    for name, mask in new.items():
        source, channels = carried[name]
        swap[id(old[source].scores)] = (mask.scores, torch.from_numpy(channels))
    gone = {id(m.scores) for m in old.values()} - set(swap)
    for group in optimizer.param_groups:
        row = []
        for p in group["params"]:
            state = optimizer.state.pop(p, None) if id(p) in gone or id(p) in swap else None
            if id(p) in gone:
                continue
            if id(p) not in swap:
                row.append(p)
                continue
            scores, index = swap[id(p)]
            row.append(scores)
            if state is not None:
                optimizer.state[scores] = {
                    k: v[index.to(v.device)] if isinstance(v, Tensor) and v.shape == p.shape else v
                    for k, v in state.items()
                }
        group["params"] = row
