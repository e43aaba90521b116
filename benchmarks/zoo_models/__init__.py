"""Forty generators that we did not write, each ready to trace.

    module, args, kwargs = make("torchgan_dcgan")

Nothing is downloaded. A builder raises ImportError when its package is absent.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

from . import decoders, image, restoration  # noqa: F401  (each registers its builders)
from .registry import ZOO, Built, Entry

__all__ = ["ZOO", "Built", "Entry", "make"]


def make(name: str) -> Built:
    """Build a generator in eval mode, with converged spectral norms and random constants.

    Raises:
        ImportError: its package is not installed.
        KeyError: no such generator.
    """
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, args, kwargs = ZOO[name].build()
        torch.manual_seed(0)
        _converge(module, args, kwargs)
    module.eval()
    _randomise(module)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return module, args, kwargs


def _converge(module: nn.Module, args: tuple, kwargs: dict, steps: int = 8) -> None:
    """Run power iterations: a fresh spectral norm divides by a random number in eval mode."""

    def normed(m: nn.Module) -> bool:
        return hasattr(m, "weight_u") or hasattr(m, "u0") or nn.utils.parametrize.is_parametrized(m)

    if not any(normed(m) for m in module.modules()):
        return
    before = {n: b.clone() for n, b in module.named_buffers() if "running" in n}
    module.train()
    with torch.no_grad():
        for _ in range(steps):
            module(*args, **kwargs)
        module.eval()
        for name, buffer in module.named_buffers():
            if name in before and before[name].shape == buffer.shape:
                buffer.copy_(before[name])


def _randomise(module: nn.Module) -> None:
    """Make constants random: behind beta = 0 and mean = 0 a wrong cut looks right."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, nn.modules.batchnorm._NormBase) and child.running_mean is not None:
                child.running_mean.normal_(0, 0.2, generator=rng)
                child.running_var.uniform_(0.6, 1.4, generator=rng)
        for parameter in module.parameters():
            constant = parameter.numel() < 2 or float(parameter.std()) == 0
            if parameter.is_floating_point() and constant:
                parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.2)
