"""How much the loss feels each gate: gradients of a step become a running share of sensitivity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from gancompress.masks.mask import ChannelMask
from gancompress.modules.ranks import mean_, world

NEWEST = 0.05
"""Share of the newest step in the running mean."""


def observe(masks: Iterable[ChannelMask], *, together: bool = False) -> None:
    """Fold the gradients of the step that is over into the ``sensitivity`` of ``masks`` (ours).

    Of each step the squared gradient by each gate counts relative to that by all gates of
    ``masks``: so neither the scale of a `GradScaler` nor a loss that falls weighs one step against
    another. A step with a gradient that is not finite is left out, in all masks.

    Args:
        masks: all masks of one generator.
        together: average the gradients over the ranks of `torch.distributed`, where it runs; every
            rank must then call this, with the same masks.
    """
    masks = list(masks)
    ranks = world() if together else 1
    felt = [mask.felt() for mask in masks]
    if not masks or (ranks == 1 and all(gradient is None for gradient in felt)):
        return
    like = masks[0].sensitivity
    pending = [
        like.new_zeros(mask.size) if gradient is None else gradient.to(like)
        for mask, gradient in zip(masks, felt, strict=True)
    ]
    with torch.no_grad():
        gradient = torch.cat(pending)
        if ranks > 1:
            # Before it is squared: as many ranks as there may be, it is that of the global batch.
            mean_([gradient], "sensitivities")
        # Relative to the largest before squaring: a scaled gradient must not overflow. No value is
        # looked at, so that an accelerator need not be waited for.
        largest = gradient.abs().max()
        valid = torch.isfinite(largest) & (largest > 0)
        square = torch.where(valid, gradient / largest, 0.0).square()
        share = square / square.sum().clamp_min(torch.finfo(like.dtype).tiny)
        seen = valid.to(like.dtype)
        for mask, part in zip(masks, share.split([m.size for m in masks]), strict=True):
            own = mask.sensitivity
            own.lerp_(part.to(own), (NEWEST * seen).to(own))


def mean_over_ranks(values: Mapping[str, np.ndarray], like: Tensor) -> dict[str, np.ndarray]:
    """Return ``values`` averaged over the ranks of `torch.distributed`, so that all choose alike.

    Without ranks they come back as they are. Every rank must call this, with the same names and
    sizes. ``like`` is a tensor on the device that the ranks talk through.
    """
    if world() == 1 or not values:
        return dict(values)
    flat = torch.from_numpy(np.concatenate(list(values.values()))).to(like.device)
    mean_([flat], "importances")
    ends = np.cumsum([len(v) for v in values.values()])[:-1]
    return dict(zip(values, np.split(flat.cpu().numpy(), ends), strict=True))
