"""What an importance is, and the two measures that several of them share.

They live in `gancompress.masks.importances`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.graph.groups import Group
from gancompress.masks.mask import ChannelMask, version_of
from gancompress.masks.parcel import Fetched, Parcel
from gancompress.plugins.kinds import IMPORTANCES as IMPORTANCES

Importance = Callable[[Group, ChannelMask, Mapping[str, Tensor], int], np.ndarray]
"""(group, its mask, raw tensors by name, seed) -> float64 (c,), positive, larger is better."""


def check_importance(importance: Any) -> None:
    """Refuse a function that cannot be called as an importance is, before anything is done.

    Raises:
        ConfigError: what it is called with is in the message.
    """
    try:
        inspect.signature(importance).bind(None, None, None, 0)
    except ValueError:  # written in C: calling it tells
        return
    except TypeError as error:
        raise ConfigError(
            f"importance {IMPORTANCES.label(importance)!r} cannot be called with (group, mask, "
            f"tensors, seed): {error}. It returns one number for each of group.size channels"
        ) from error


def checked(values: np.ndarray, group: Group, importance: Importance) -> np.ndarray:
    """Return what ``importance`` gave for ``group``, as float64 (c,).

    Raises:
        ConfigError: it is not one finite number a channel.
    """
    found = np.asarray(values, np.float64)
    if found.shape != (group.size,) or not np.isfinite(found).all():
        what = "numbers that are not finite" if found.shape == (group.size,) else f"{found.shape}"
        raise ConfigError(
            f"importance {IMPORTANCES.label(importance)!r} gives {what} for group {group.name!r}: "
            f"it must be one finite number for each of its {group.size} channels"
        )
    return found


def read_masks(
    masks: Mapping[str, ChannelMask], fetched: Fetched | None = None
) -> dict[str, ChannelMask]:
    """Return stand-ins of ``masks`` on the CPU, for importances to read: one transfer for all.

    ``fetched`` holds scores and sensitivity by name where they are on the CPU already.
    """
    if not masks:
        return {}
    if fetched is None:
        parcel = Parcel(masks)
        parcel.arrived(parcel.packed.cpu(), masks)
        fetched = parcel.of(masks)
        assert fetched is not None
    found: dict[str, ChannelMask] = {}
    for name, mask in masks.items():
        scores, sensitivity = fetched[name]
        seen = copy.copy(mask)
        seen._parameters = {"scores": scores}  # type: ignore[dict-item]
        seen._buffers = {
            "alive": torch.from_numpy(mask.living),
            "sensitivity": sensitivity.to(mask.sensitivity.dtype),
            "progress": torch.tensor(mask._progress, dtype=mask.progress.dtype),
            "settled": torch.tensor(not mask.decides),
        }
        seen._written = version_of(seen.alive)
        found[name] = seen
    return found


def ranked(values: np.ndarray, mask: ChannelMask) -> np.ndarray:
    """Spread the living channels of a group over (0.5, 1.5], in the order of ``values`` (ours).

    Norms and scores order the channels of one group; their spread says nothing about how one group
    compares with another, and a group with a long tail would lose most of its channels. With ranks
    every group is valued alike, and cost decides where to remove.
    """
    alive = mask.living
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
