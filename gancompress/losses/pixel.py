"""Losses that compare value by value: images, sound, volumes."""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.errors import ConfigError
from gancompress.losses.protocol import LOSSES, same_shape


@LOSSES.register("l1")
def l1(output: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute difference (Isola et al. 2017, eq. 3)."""
    a, b = same_shape(output, wanted, "l1")
    return (a - b).abs().mean()


@LOSSES.register("l2")
def l2(output: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared difference."""
    a, b = same_shape(output, wanted, "l2")
    return (a - b).square().mean()


def _positive(eps: float) -> None:
    if not eps > 0:
        raise ConfigError(f"loss charbonnier: eps is {eps}; it must be above 0")


@LOSSES.register("charbonnier", check=_positive)
def charbonnier(output: Tensor, wanted: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(d^2 + eps^2), a smooth L1 (Lai et al. 2017, eq. 2)."""
    a, b = same_shape(output, wanted, "charbonnier")
    return torch.sqrt((a - b).square() + eps * eps).mean()
