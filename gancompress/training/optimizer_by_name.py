"""Optimisers of a recipe, made: by name, with one kernel for all parameters where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.recipes.optimizer_names import OPTIMIZERS
from gancompress.recipes.parts import Optim


def make_optimizer(parameters: list[nn.Parameter], numbers: Optim) -> torch.optim.Optimizer:
    """Return the optimiser that ``numbers`` name, fused where torch has that here."""
    kind, has, _ = OPTIMIZERS[numbers.name]
    options = numbers.options | {key: getattr(numbers, key) for key in sorted(has)}
    # One kernel for all parameters, where there is one: the step of a small student is short.
    if fused(parameters, kind):
        options["fused"] = True
    return getattr(torch.optim, kind)(parameters, lr=numbers.lr, **options)


def make_mask_optimizer(
    scores: list[nn.Parameter], numbers: Optim, lr: float
) -> torch.optim.Optimizer:
    """Return the optimiser of mask scores: Adam, whatever moves the weights (ours).

    Scores say which channel is worth more; decay would pull them all to closed.
    """
    betas, eps = (0.0, 0.999), 1e-8
    if "betas" in OPTIMIZERS[numbers.name][1]:
        betas, eps = numbers.betas, numbers.eps
    return torch.optim.Adam(scores, lr=lr, betas=betas, eps=eps, fused=fused(scores) or None)


def fused(parameters: Iterable[Tensor], kind: str = "Adam") -> bool:
    """Return whether torch has a fused ``kind`` for all of these parameters, by trying it."""
    return all(
        _fused_works(kind, *found) for found in {(p.device.type, p.dtype) for p in parameters}
    )


@cache
def _fused_works(kind: str, device: str, dtype: torch.dtype) -> bool:
    try:
        one: Any = torch.ones(2, device=device, dtype=dtype, requires_grad=True)
        one.grad = torch.ones_like(one)
        getattr(torch.optim, kind)([one], lr=0.1, fused=True).step()
        return bool(torch.isfinite(one.detach()).all())
    except (RuntimeError, NotImplementedError, TypeError):
        return False
