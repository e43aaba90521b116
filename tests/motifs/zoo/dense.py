"""Dense concatenation, nested residuals, gates over channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


class DenseBlock(nn.Module):
    """Three convolutions, each reading everything before it; scaled residual (ESRGAN)."""

    def __init__(self, c: int, grow: int):
        super().__init__()
        self.c1 = nn.Conv2d(c, grow, 3, padding=1)
        self.c2 = nn.Conv2d(c + grow, grow, 3, padding=1)
        self.c3 = nn.Conv2d(c + 2 * grow, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.c1(x), 0.2)
        b = F.leaky_relu(self.c2(torch.cat((x, a), 1)), 0.2)
        return x + 0.2 * self.c3(torch.cat((x, a, b), 1))


# The trunk is one group over all blocks; every growth convolution is a group of its own.
@motif(
    "dense_esrgan",
    free={
        "head": 8,
        "blocks.0.c1": 4,
        "blocks.0.c2": 4,
        "blocks.0.c3": 8,
        "blocks.1.c1": 4,
        "blocks.1.c2": 4,
        "blocks.1.c3": 8,
        "body": 8,
        "up": 8,
    },
)
class ESRGAN(nn.Module):
    """Residual in residual dense blocks, upsampling, long skip."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.blocks = nn.Sequential(DenseBlock(c, c // 2), DenseBlock(c, c // 2))
        self.body, self.up = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.rand(1, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.head(x)
        h = h + self.body(self.blocks(h) * 0.2 + h)
        return self.out(F.leaky_relu(self.up(F.interpolate(h, scale_factor=2)), 0.2))


@motif("dense_net", free={"stem": 8, "a": 8, "b": 8, "trans": 12})
class DenseNet(nn.Module):
    """DenseNet order: batch norm over the concatenation, then the convolution."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.n1, self.a = nn.BatchNorm2d(c), nn.Conv2d(c, c, 3, padding=1)
        self.n2, self.b = nn.BatchNorm2d(2 * c), nn.Conv2d(2 * c, c, 3, padding=1)
        self.n3, self.trans = nn.BatchNorm2d(3 * c), nn.Conv2d(3 * c, c + c // 2, 1)
        self.out = nn.Conv2d(c + c // 2, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.stem(x)]
        parts.append(self.a(F.relu(self.n1(parts[0]))))
        parts.append(self.b(F.relu(self.n2(torch.cat(parts, 1)))))
        return self.out(F.relu(self.trans(F.relu(self.n3(torch.cat(parts, 1))))))


# The gate's last convolution writes one number per channel: it goes with the features.
@motif("squeeze_excite", free={"conv": 12, "down": 4, "up": 12, "body": 12})
class SqueezeExcite(nn.Module):
    """Squeeze and excitation with 1x1 convolutions on the pooled features."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.down, self.up = nn.Conv2d(c, c // 3, 1), nn.Conv2d(c // 3, c, 1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        h = h + self.body(F.relu(h))
        gate = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(h, 1)))))
        return self.out(h * gate)


@motif("squeeze_excite_linear", free={"conv": 12, "down": 4, "up": 12})
class SqueezeExciteLinear(nn.Module):
    """scSE: the channel gate by Linear layers and view, the spatial gate by a 1-map convolution."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 1, 1)
        self.down, self.up = nn.Linear(c, c // 3), nn.Linear(c // 3, c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        n, c, _, _ = h.shape
        pooled = h.mean((2, 3)).view(n, c)
        gate = torch.sigmoid(self.up(F.relu(self.down(pooled)))).view(n, c, 1, 1)
        return self.out(h * gate.expand_as(h) + h * torch.sigmoid(self.gate(h)))


# FastGAN's skip-layer excitation: a low-resolution gate on high-resolution features.
@motif("skip_excitation", free={"low": 12, "g1": 8, "g2": 8, "high": 8})
class SkipExcitation(nn.Module):
    """Skip-layer excitation and a Swish gate by one learned scalar per channel."""

    def __init__(self, c: int = 12):
        super().__init__()
        d = 2 * c // 3
        self.low, self.high = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, d, 3, padding=1)
        self.g1, self.g2 = nn.Conv2d(c, d, 4), nn.Conv2d(d, d, 1)
        self.gain = nn.Parameter(torch.randn(d, 1, 1))
        self.out = nn.Conv2d(d, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        low = F.relu(self.low(x))
        high = self.high(F.interpolate(low, scale_factor=2)) * self.gain
        gate = self.g2(F.silu(self.g1(F.adaptive_avg_pool2d(low, 4))))
        return self.out(high * torch.sigmoid(gate))


# A one-channel mask times features couples nothing; a 3-channel attention is summed over.
@motif("mask_times_features", free={"a": 12, "b": 12}, kept={"mask": ("output", "size 1")})
class MaskTimesFeatures(nn.Module):
    """A predicted one-channel mask blends two feature maps; the mask is returned as well."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(3, c, 5, padding=2)
        self.mask = nn.Conv2d(c, 1, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = F.relu(self.a(x)), F.relu(self.b(x))
        mask = torch.sigmoid(self.mask(a))
        return self.out(mask * a + (1 - mask) * b), mask


# HiFi-GAN's multi-receptive-field fusion: the mean of parallel residual stacks.
@motif("parallel_fusion", free={"pre": 8, "k3": 8, "k5": 8, "k7": 8})
class Fusion(nn.Module):
    """Average of parallel branches, accumulated in a loop from None."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.pre = nn.Conv1d(4, c, 3, padding=1)
        self.k3, self.k5 = nn.Conv1d(c, c, 3, padding=1), nn.Conv1d(c, c, 5, padding=2)
        self.k7 = nn.Conv1d(c, c, 7, padding=3)
        self.alpha = nn.Parameter(torch.rand(1, c, 1) + 0.5)
        self.out = nn.Conv1d(c, 1, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 4, 12),), {}

    def forward(self, mel: Tensor) -> Tensor:
        h = self.pre(mel)
        total = None
        for branch in (self.k3, self.k5, self.k7):
            y = h + branch(h + torch.sin(self.alpha * h).pow(2) / (self.alpha + 1e-9))
            total = y if total is None else total + y
        return torch.tanh(self.out(total / 3))


# WaveNet gate: tanh and sigmoid halves of one convolution, condition added, residual and skip.
@motif("gated_conv", free={"pre": 8, "dil": 16, "cond": 16, "res": 8, "skip": 6})
class GatedConv(nn.Module):
    """Gated convolution with global conditioning, residual and skip outputs."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.pre, self.cond = nn.Conv1d(2, c, 3, padding=1), nn.Linear(5, 2 * c)
        self.dil = nn.Conv1d(c, 2 * c, 3, padding=2, dilation=2)
        self.res, self.skip = nn.Conv1d(c, c, 1), nn.Conv1d(c, c - 2, 1)
        self.out, self.last = nn.Conv1d(c, 1, 1), nn.Conv1d(c - 2, 1, 1)

    def example(self) -> Example:
        return (torch.randn(2, 2, 10), torch.randn(2, 5)), {}

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        h = self.pre(x)
        a, b = (self.dil(h) + self.cond(speaker).unsqueeze(-1)).chunk(2, 1)
        gated = torch.tanh(a) * torch.sigmoid(b)
        return self.out(F.relu(h + self.res(gated))) + self.last(F.relu(self.skip(gated)))
