"""What the last gradient says a channel is worth, to first and to second order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES
from gancompress.masks.importances.magnitude import magnitude
from gancompress.masks.mask import ChannelMask


@IMPORTANCES.register("taylor")
def taylor(group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int) -> np.ndarray:
    """Sum of |weight x gradient| of all that a channel owns (Molchanov et al. 2017, 2019).

    To first order, what the loss changes when it goes; as torch-pruning sums it over a group. The
    gradients are those that lie in ``.grad`` now: of the last step, or of all backward passes since
    it was cleared. Magnitude before the first, and where one is not finite. Comparable across
    groups.
    """
    found = _summed(group, tensors, lambda w, g: (w * g).abs())
    return magnitude(group, mask, tensors, seed) if found is None else found


@IMPORTANCES.register("obd")
def obd(group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int) -> np.ndarray:
    """Half the sum of weight^2 x gradient^2 of all that a channel owns (LeCun et al. 1990, eq. 5).

    Optimal Brain Damage with the squared gradient of a batch for the diagonal of the Hessian, as in
    torch-pruning; gradients and magnitude as for `taylor`. Comparable across groups.
    """
    found = _summed(group, tensors, lambda w, g: (w * g).square() / 2)
    return magnitude(group, mask, tensors, seed) if found is None else found


def _summed(
    group: Group, tensors: Mapping[str, Tensor], worth: Callable[[Tensor, Tensor], Tensor]
) -> np.ndarray | None:
    total = np.zeros(group.size)
    seen = False
    for (name, dim), index in group.slots.items():
        t = tensors[name]
        if not isinstance(t, torch.nn.Parameter) or t.grad is None:
            continue
        seen = True
        each = worth(t.detach().double(), t.grad.detach().double())
        total += each.movedim(dim, 0).reshape(t.shape[dim], -1).sum(1).cpu().numpy()[index].sum(1)
    if not np.isfinite(total).all():
        return None  # the gradient of a step that went wrong says nothing
    # Positive, and small against what was seen: a channel without gradient is worth little.
    return total + 1e-6 * total.mean() if seen and total.any() else None
