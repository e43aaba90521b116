"""Layers of BigGAN (Brock et al. 2019): spectral norm, conditional batch norm, self-attention.

Shape letters: n batch, c channels, h w space, o i writer and reader channels, k classes.
Every size used in a `forward` comes from a tensor, so that sliced modules keep working.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "BatchNorm2d",
    "ConditionalBatchNorm2d",
    "SelfAttention2d",
    "SpectralConv2d",
    "SpectralEmbedding",
    "SpectralLinear",
    "spectral_weight",
]


def spectral_weight(weight: Tensor, u0: Tensor, sv0: Tensor, *, eps: float, update: bool) -> Tensor:
    """Divide ``weight`` (o, ...) by its largest singular value after one power iteration.

    ``u0`` (1, o) is the running left vector and ``sv0`` (1,) a log of the value; both are written
    in place when ``update``. The iteration also runs when not updating. Gradients flow through
    ``weight`` in the singular value, not through the vectors. Computed in at least float32,
    autocast or not; the result has the dtype and memory format of ``weight`` (Miyato et al. 2018).
    """
    device = weight.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return _spectral_weight(weight, u0, sv0, eps, update)
    return _spectral_weight(weight, u0, sv0, eps, update)


def _spectral_weight(weight: Tensor, u0: Tensor, sv0: Tensor, eps: float, update: bool) -> Tensor:
    # The singular value does not depend on the column order: read a channels-last weight as it lies
    # in memory instead of copying it.
    last = weight.dim() == 4 and not weight.is_contiguous()
    matrix = (weight.permute(0, 2, 3, 1) if last else weight).flatten(1)
    if matrix.dtype in (torch.bfloat16, torch.float16):
        matrix = matrix.float()
    v = _unit(u0.to(matrix.dtype) @ matrix.detach(), eps)
    wv = functional.linear(v, matrix)  # one product serves the new u and, with gradient, sigma
    u = _unit(wv.detach(), eps)
    sigma = (u * wv).sum()
    if update:
        u0.copy_(u)
        sv0.copy_(sigma.detach())
    # Multiplying has a backward of two passes over the weight, dividing one of five.
    return _Scaled.apply(weight, sigma.reciprocal())  # type: ignore[no-any-return]


class _Scaled(torch.autograd.Function):
    """``weight * factor``, which keeps its result for the backward pass and not ``weight``.

    The convolution keeps the result anyway; a weight that was made for this forward, by a gate say,
    need not live on beside it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, factor: Tensor) -> Tensor:
        out = weight * factor
        ctx.save_for_backward(out, factor)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None]:
        (grad,), (out, factor) = grads, ctx.saved_tensors
        needs_weight, needs_factor = ctx.needs_input_grad
        return (
            grad * factor if needs_weight else None,
            (grad * out).sum() / factor if needs_factor else None,
        )


def _unit(vector: Tensor, eps: float) -> Tensor:
    return vector / torch.linalg.vector_norm(vector).clamp_min(eps)


class SpectralConv2d(nn.Conv2d):
    """Convolution with a spectrally normalised weight; ``padding`` keeps h and w (odd kernels)."""

    u0: Tensor
    sv0: Tensor

    def __init__(self, i: int, o: int, kernel: int, *, bias: bool = True, eps: float) -> None:
        super().__init__(i, o, kernel, padding=kernel // 2, bias=bias)
        self.sn_eps = eps
        self.register_buffer("u0", torch.randn(1, o))
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, i, h, w) to (n, o, h, w)."""
        weight = spectral_weight(
            self.weight, self.u0, self.sv0, eps=self.sn_eps, update=self.training
        )
        return functional.conv2d(input, weight, self.bias, padding=self.padding)


class SpectralLinear(nn.Linear):
    """Linear layer with a spectrally normalised weight."""

    u0: Tensor
    sv0: Tensor

    def __init__(self, i: int, o: int, *, bias: bool = True, eps: float) -> None:
        super().__init__(i, o, bias=bias)
        self.sn_eps = eps
        self.register_buffer("u0", torch.randn(1, o))
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, i) to (n, o)."""
        weight = spectral_weight(
            self.weight, self.u0, self.sv0, eps=self.sn_eps, update=self.training
        )
        return functional.linear(input, weight, self.bias)


class SpectralEmbedding(nn.Embedding):
    """Class table (k, c) normalised by its own largest singular value: all classes share it."""

    u0: Tensor
    sv0: Tensor

    def __init__(self, k: int, c: int, *, eps: float) -> None:
        super().__init__(k, c)
        self.sn_eps = eps
        self.register_buffer("u0", torch.randn(1, k))
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, input: Tensor) -> Tensor:
        """Map int64 labels (n,) in [0, k) to (n, c)."""
        weight = spectral_weight(
            self.weight, self.u0, self.sv0, eps=self.sn_eps, update=self.training
        )
        return functional.embedding(input, weight)


class BatchNorm2d(nn.Module):
    """Batch norm with the names of the public BigGAN code: gain, bias, stored_mean, stored_var."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, c: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(c))
        self.bias = nn.Parameter(torch.zeros(c))
        self.register_buffer("stored_mean", torch.zeros(c))
        self.register_buffer("stored_var", torch.ones(c))

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (n, c, h, w) by batch statistics in training mode, stored ones otherwise."""
        return functional.batch_norm(
            input,
            self.stored_mean,
            self.stored_var,
            self.gain,
            self.bias,
            training=self.training,
            momentum=0.1,
            eps=self.eps,
        )


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and bias are read from a condition (de Vries et al. 2017).

    ``gain`` and ``bias`` map the condition to (n, c): spectral linears of an embedding, or tables
    indexed by label. The output is ``normalised * (1 + gain) + bias``.
    """

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, c: int, gain: nn.Module, bias: nn.Module, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gain = gain
        self.bias = bias
        self.register_buffer("stored_mean", torch.zeros(c))
        self.register_buffer("stored_var", torch.ones(c))

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        """Normalise (n, c, h, w) under a condition: float (n, i), or int64 labels (n,)."""
        scale = 1 + self.gain(condition)
        shift = self.bias(condition)
        if self.training:
            input = functional.batch_norm(
                input, self.stored_mean, self.stored_var, training=True, momentum=0.1, eps=self.eps
            )
        else:
            # Stored statistics fold into scale and shift: one pass over the activation, not two.
            scale = scale * torch.rsqrt(self.stored_var + self.eps)
            shift = shift - self.stored_mean * scale
        scale = scale.to(input.dtype)[:, :, None, None]
        shift = shift.to(input.dtype)[:, :, None, None]
        return torch.addcmul(shift, input, scale)


class SelfAttention2d(nn.Module):
    """Self-attention over space (Zhang et al. 2019, SAGAN), keys and values pooled 2x2."""

    def __init__(self, c: int, *, eps: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(0.0))
        self.theta = SpectralConv2d(c, c // 8, 1, bias=False, eps=eps)
        self.phi = SpectralConv2d(c, c // 8, 1, bias=False, eps=eps)
        self.g = SpectralConv2d(c, c // 2, 1, bias=False, eps=eps)
        self.o = SpectralConv2d(c // 2, c, 1, bias=False, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape; h and w even."""
        queries = self.theta(input).flatten(2)  # (n, c/8, hw)
        keys = functional.max_pool2d(self.phi(input), 2).flatten(2)  # (n, c/8, hw/4)
        values = functional.max_pool2d(self.g(input), 2).flatten(2)  # (n, c/2, hw/4)
        attention = torch.bmm(queries.transpose(1, 2), keys).softmax(-1)  # (n, hw, hw/4)
        mixed = torch.bmm(values, attention.transpose(1, 2)).unflatten(2, input.shape[2:])
        return torch.addcmul(input, self.gamma, self.o(mixed))
