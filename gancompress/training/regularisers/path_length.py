"""Path length: equal steps of the latent change the output equally."""

from __future__ import annotations

from math import prod, sqrt
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from gancompress.training.regularisation import REGULARISERS, Making

_TINY = 1e-12  # inside of the root, whose slope at 0 is infinite


@REGULARISERS.register("path_length", side="generator")
class PathLength(nn.Module):
    """Return E[(|J^T y| - a)^2], y noise and a the mean length so far (Karras et al. 2020, eq. 4).

    J is the derivative of the output by the generator's own latent, its first input (n, z) of
    floats: w there, which a generator that begins with a mapping network does not take. The public
    code's numbers are ``weight: 2, every: 4``.

    Args:
        decay: how fast ``a`` follows the lengths of a batch.
        shrink: the batch is divided by it, to at least two samples (appendix B).
    """

    mean: Tensor

    def __init__(
        self,
        *,
        decay: Annotated[float, Field(gt=0, le=1)] = 0.01,
        shrink: Annotated[int, Field(ge=1)] = 2,
    ) -> None:
        super().__init__()
        self.decay, self.shrink = decay, shrink
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, seen: Making) -> Tensor:
        """Return the penalty, and move the mean length."""
        latent, output = seen.along_latent(max(2, len(seen.batch) // self.shrink))
        noise = torch.randn(output.shape, generator=seen.rng).to(output)
        noise = noise / sqrt(prod(output.shape[2:]))
        (slope,) = torch.autograd.grad((output * noise).sum(), latent, create_graph=True)
        length = (slope.flatten(1).square().sum(1) + _TINY).sqrt()
        mean = torch.lerp(self.mean, length.detach().mean(), self.decay)
        self.mean.copy_(mean)
        return (length - mean).square().mean()
