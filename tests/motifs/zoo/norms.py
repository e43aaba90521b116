"""Normalisation layers: which channels they carry, which they mix."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


class Pair(nn.Module):
    """conv -> `norm` -> body -> out; subclasses give the norm between conv and body."""

    def __init__(self, c: int, norm: nn.Module | None = None):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 12, 3, padding=1)
        self.norm = nn.Identity() if norm is None else norm
        self.out = nn.Conv2d(12, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def normed(self, h: Tensor) -> Tensor:
        return self.norm(h)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.body(F.relu(self.normed(self.conv(x))))))


@motif("instance_norm", free={"conv": 12, "body.weight:0": 12})
class Instance(Pair):
    """InstanceNorm2d with affine parameters."""

    def __init__(self, c: int = 12):
        super().__init__(c, nn.InstanceNorm2d(c, affine=True))
        self.body, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)


@motif("instance_norm_plain", free={"conv": 12, "body.weight:0": 12})
class InstancePlain(Pair):
    """InstanceNorm2d without parameters, with running statistics."""

    def __init__(self, c: int = 12):
        super().__init__(c, nn.InstanceNorm2d(c, track_running_stats=True))
        self.body, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)


# Statistics run over a group of three channels: the group goes whole, num_groups with it. All
# 12 rows are free in that sense.
@motif("group_norm", free={"conv": 12, "body": 12})
class Group(Pair):
    """GroupNorm with four groups: whole groups go."""

    def __init__(self, c: int = 12):
        super().__init__(c, nn.GroupNorm(4 * c // 12, c))
        self.body, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)


# One group is a layer norm over channels and space: those channels stay.
@motif(
    "group_norm_one", free={"body": 12}, kept={"conv": ("group_norm", "native_group_norm", "norm")}
)
class GroupOne(Pair):
    """GroupNorm with a single group."""

    def __init__(self, c: int = 12):
        super().__init__(8, nn.GroupNorm(1, 8))
        self.body, self.out = nn.Conv2d(8, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)


@motif("layer_norm", free={"body": 12}, kept={"conv": ("layer_norm", "norm")})
class Layer(Pair):
    """LayerNorm over the channels, in channel-last order (ConvNeXt)."""

    def __init__(self, c: int = 12):
        super().__init__(8, nn.LayerNorm(8))
        self.body, self.out = nn.Conv2d(8, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def normed(self, h: Tensor) -> Tensor:
        return self.norm(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@motif("pixel_norm", free={"body": 12}, kept={"conv": ("mean",)})
class Pixel(Pair):
    """PixelNorm of ProGAN: mean of squares over the channels."""

    def __init__(self, c: int = 12):
        super().__init__(8)
        self.body, self.out = nn.Conv2d(8, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def normed(self, h: Tensor) -> Tensor:
        return h * torch.rsqrt(h.pow(2).mean(dim=1, keepdim=True) + 1e-8)


# Softmax and the unit length run over all channels.
@motif("channel_softmax", free={"body": 12}, kept={"conv": ("softmax",)})
class Softmax(Pair):
    """Softmax over the channels."""

    def __init__(self, c: int = 12):
        super().__init__(8)
        self.body, self.out = nn.Conv2d(8, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def normed(self, h: Tensor) -> Tensor:
        return h.softmax(1)


# Mean and maximum over the channels count every one of them (CBAM's spatial gate).
@motif("spatial_gate", free={"body": 12}, kept={"conv": ("mean", "max", "amax")})
class SpatialGate(Pair):
    """CBAM: the gate reads mean and maximum over the channels."""

    def __init__(self, c: int = 12):
        super().__init__(8)
        self.gate = nn.Conv2d(2, 1, 3, padding=1)
        self.body, self.out = nn.Conv2d(8, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def normed(self, h: Tensor) -> Tensor:
        seen = torch.cat([h.mean(1, keepdim=True), h.amax(1, keepdim=True)], 1)
        return h * torch.sigmoid(self.gate(seen))


# Local response norm is a window over neighbouring channels.
@motif("local_response", free={"body": 12}, kept={"conv": ("avg_pool", "norm")})
class LocalResponse(Pair):
    """LocalResponseNorm across channels."""

    def __init__(self, c: int = 12):
        super().__init__(8, nn.LocalResponseNorm(3, alpha=0.5))
        self.body, self.out = nn.Conv2d(8, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)


# One row of statistics per truncation value: the channels are the second dimension.
@motif("stats_table", free={"conv": 12, "body": 12})
class StatsTable(Pair):
    """BigGAN-deep: running statistics per truncation, interpolated at run time."""

    def __init__(self, c: int = 12):
        super().__init__(c)
        self.body, self.out = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)
        self.register_buffer("means", torch.randn(5, c) * 0.1)
        self.register_buffer("vars", torch.rand(5, c) + 0.5)
        self.step, self.eps = 0.25, 1e-4

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6), 0.6), {}

    def forward(self, x: Tensor, truncation: float) -> Tensor:
        coef, start = torch.tensor(truncation / self.step).frac(), int(truncation / self.step)
        mean = self.means[start] * (1 - coef) + self.means[start + 1] * coef
        var = self.vars[start] * (1 - coef) + self.vars[start + 1] * coef
        h = self.conv(x)
        h = (h - mean.view(1, -1, 1, 1)) / torch.sqrt(var.view(1, -1, 1, 1) + self.eps)
        return self.out(F.relu(self.body(F.relu(h))))


# A dead channel is revived by beta and the running mean; only its readers can silence it. `sum`
# over channels reads without a parameter, so those channels must stay or be silenced at writers.
@motif("revived_by_beta", free={"a": 12, "b": 12})
class Revived(nn.Module):
    """Batch norm after the sum, sigmoid and softplus: nothing maps zero to zero."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.bn = nn.BatchNorm2d(c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.a(x))
        h = F.softplus(self.bn(h + self.b(h)))
        return self.out(torch.cos(h))


# The discriminator's minibatch deviation averages over channels; generators use it too. The
# features before it stay, those after go.
@motif("minibatch_std", free={"body": 12}, kept={"conv": ("mean",)})
class MinibatchStd(Pair):
    """Minibatch standard deviation appended as one channel."""

    def __init__(self, c: int = 12):
        super().__init__(8)
        self.body, self.out = nn.Conv2d(9, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def normed(self, h: Tensor) -> Tensor:
        std = h.std(0, unbiased=False).mean().expand(h.shape[0], 1, *h.shape[2:])
        return torch.cat([h, std], 1)
