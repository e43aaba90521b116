"""Norms over all channels that still count the channels that are gone: each counts as zero (ours).

A mean over channels changes when a channel that is zero leaves: the sum stays, the count does not.
With the count held, removal is exact. The graph form calls these in place of torch's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_NARROW = (torch.float16, torch.bfloat16)


def mean_of(
    x: Tensor,
    dims: Sequence[int],
    keepdim: bool,
    count: int,
    batch: int = 1,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the sum of ``x`` over ``dims`` divided by ``count`` values of each of ``batch``."""
    total = _wide(x).sum(list(dims), keepdim=keepdim) / (count * batch)
    return total.to(x.dtype if dtype is None else dtype)


def variance_of(
    x: Tensor, dims: Sequence[int], correction: float, keepdim: bool, count: int, batch: int = 1
) -> Tensor:
    """Return the variance of ``x`` over ``dims``, ``count * batch`` values; none there is zero.

    The sum of ``x * (x - mean)`` is that of ``(x - mean) ** 2``, and zeros add nothing to it.
    """
    wide, count = _wide(x), count * batch
    mean = wide.sum(list(dims), keepdim=True) / count
    total = (wide * (wide - mean)).sum(list(dims), keepdim=keepdim)
    return (total / max(count - correction, 0.0)).to(x.dtype)


def deviation_of(
    x: Tensor, dims: Sequence[int], correction: float, keepdim: bool, count: int, batch: int = 1
) -> Tensor:
    """Return the standard deviation, as `variance_of`."""
    return variance_of(x, dims, correction, keepdim, count, batch).clamp(min=0).sqrt()


def variance_and_mean_of(
    x: Tensor, dims: Sequence[int], correction: float, keepdim: bool, count: int, batch: int = 1
) -> tuple[Tensor, Tensor]:
    """Return `variance_of` and `mean_of`."""
    spread = variance_of(x, dims, correction, keepdim, count, batch)
    return spread, mean_of(x, dims, keepdim, count, batch)


def deviation_and_mean_of(
    x: Tensor, dims: Sequence[int], correction: float, keepdim: bool, count: int, batch: int = 1
) -> tuple[Tensor, Tensor]:
    """Return `deviation_of` and `mean_of`."""
    spread = deviation_of(x, dims, correction, keepdim, count, batch)
    return spread, mean_of(x, dims, keepdim, count, batch)


def layer_norm_of(
    x: Tensor, rank: int, weight: Tensor | None, bias: Tensor | None, eps: float, count: int
) -> Tensor:
    """Return layer norm over the last ``rank`` dimensions, which hold ``count`` values."""
    dims = range(-rank, 0)
    return _affine(_normalised(_wide(x), dims, eps, count), weight, bias).to(x.dtype)


def rms_norm_of(
    x: Tensor, rank: int, weight: Tensor | None, eps: float | None, count: int
) -> Tensor:
    """Return RMS norm over the last ``rank`` dimensions, which hold ``count`` values."""
    wide = _wide(x)
    power = wide.square().sum(list(range(-rank, 0)), keepdim=True) / count
    small = torch.finfo(wide.dtype).eps if eps is None else eps
    return _affine(wide * torch.rsqrt(power + small), weight, None).to(x.dtype)


def one_group_norm_of(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, count: int
) -> Tensor:
    """Return group norm with one group over all but the batch, ``count`` values a sample."""
    made = _normalised(_wide(x), range(1, x.dim()), eps, count)
    column = (-1,) + (1,) * (x.dim() - 2)
    vectors = (None if v is None else v.view(column) for v in (weight, bias))
    return _affine(made, *vectors).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    """Sums of half-precision numbers are made in float32, as torch's norms do."""
    return x.float() if x.dtype in _NARROW else x


def _normalised(x: Tensor, dims: Sequence[int], eps: float, count: int) -> Tensor:
    shifted = x - x.sum(list(dims), keepdim=True) / count
    spread = (x * shifted).sum(list(dims), keepdim=True) / count
    # Rounding may leave a constant row a spread just below zero.
    return shifted * torch.rsqrt(spread.clamp(min=0) + eps)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias
