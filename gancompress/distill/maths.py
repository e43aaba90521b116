"""The few formulas that several distillers share, in full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-12


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in float32 when its dtype is narrower, else unchanged (ours)."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on the device of ``x``: no loss in bf16 (ours)."""
    return torch.autocast(x.device.type, enabled=False)


def unit(rows: Tensor) -> Tensor:
    """Scale each row of (n, m) to unit L2 norm; a zero row stays zero, with a zero gradient."""
    return F.normalize(rows, dim=1, eps=EPS)


def attention_map(x: Tensor, gain: Tensor | None = None) -> Tensor:
    """Return unit attention maps (n, h*w) of (n, c, h, w): mean over channels of (gain x)^2.

    Zagoruyko & Komodakis 2017, Section 3.1, with power 2; the sum over channels is the same after
    scaling to unit norm. ``gain`` is (n, c), or (n, c, h, w). The number and the order of
    channels do not matter. ``x`` may be in bf16; the maps are at least float32.
    """
    return unit((channel_energy(x, gain) / x.shape[1]).flatten(1))


def channel_energy(x: Tensor, gain: Tensor | None = None) -> Tensor:
    """Return the sum over channels of (gain x)^2, (n, *space), of (n, c, *space) (ours).

    ``gain`` is (n, c) or (n, c, *space). At least float32, whatever the precision of ``x``.
    """
    if gain is not None:
        x = x * gain.to(x.dtype).view(*gain.shape, *[1] * (x.dim() - gain.dim()))
    return squared_norm(x, 1)


def map_distance(student: Tensor, teacher: Tensor, share: Tensor | None = None) -> Tensor:
    """Return the mean over samples, or by ``share`` (n,), of the squared distance of maps (n, m).

    In [0, 2] for non-negative unit maps, in [0, 4] for others.
    """
    distances = (student - teacher).square().sum(dim=1)
    return distances.mean() if share is None else (share * distances).sum()


def relative_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared error over the teacher's squared norm, 1 for a student of zeros (ours).

    Tensors of one shape, in any precision; the result is at least float32, and no gradient goes to
    the teacher.
    """
    norm = squared_norm(teacher.detach()) + EPS * teacher.numel()
    return squared_norm(student - teacher.detach()) / norm


def squared_norm(x: Tensor, dim: int | None = None) -> Tensor:
    """Return the sum of squares of ``x`` along ``dim``, or of all, in at least float32 (ours).

    Five times faster for an activation in bf16 than ``x.float().square().sum()``: it keeps no copy
    in float32, and its gradient is made in the precision of ``x``. The gradient also keeps the
    memory format of ``x``; that of a mean has the default one, and every layer before would copy.
    """
    return _SquaredNorm.apply(x, dim)  # type: ignore[no-any-return]


class _SquaredNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.dim = dim
        narrow = x.dtype in (torch.float16, torch.bfloat16)
        wide = torch.float32 if narrow else x.dtype
        return torch.linalg.vector_norm(x, dim=dim, dtype=wide).square()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = (2 * grads[0]).to(x.dtype)
        return x * (slope if ctx.dim is None else slope.unsqueeze(ctx.dim)), None


def first_rows(x: Tensor, count: int) -> Tensor:
    """Return ``x[:count]``, with a gradient in the memory format of ``x`` (ours).

    That of a plain slice has the default one, and every layer before would copy.
    """
    return x if count == len(x) else _FirstRows.apply(x, count)  # type: ignore[no-any-return]


class _FirstRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> Tensor:
        ctx.shape, ctx.stride = x.shape, x.stride()
        return x[:count]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (slope,) = grads
        full = slope.new_empty_strided(ctx.shape, ctx.stride)
        full[: len(slope)] = slope
        full[len(slope) :] = 0
        return full, None
