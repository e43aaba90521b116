"""The few formulas that several distillers share, in full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

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
    scaling to unit norm. ``gain`` is (n, c). The number and the order of channels do not matter.
    """
    if gain is not None:
        x = x * gain.view(*gain.shape, *[1] * (x.dim() - 2))
    # Not .mean(): its gradient has the default memory format, and every layer before would copy.
    return unit((x.square().sum(dim=1) / x.shape[1]).flatten(1))


def map_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the batch mean of the squared distance of unit maps (n, m).

    In [0, 2] for non-negative maps, else in [0, 4].
    """
    return (student - teacher).square().sum(dim=1).mean()


def relative_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared error over the teacher's squared norm, 1 for a student of zeros (ours)."""
    # Sums, not means: see `attention_map`.
    return (student - teacher).square().sum() / (teacher.square().sum() + EPS * teacher.numel())
