"""Convolutions of every kind, residual sums, U-Net: no idiom that is special to GANs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


# Latent and image channels are fixed by the interface; every hidden channel is free.
@motif("dcgan", field=True, free={"up1": 16, "up2": 8})
class DCGAN(nn.Module):
    """ConvTranspose2d + BatchNorm2d, the DCGAN stack."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.up1, self.bn1 = nn.ConvTranspose2d(8, c, 4, bias=False), nn.BatchNorm2d(c)
        self.up2, self.bn2 = nn.ConvTranspose2d(c, c // 2, 4, 2, 1), nn.BatchNorm2d(c // 2)
        self.up3 = nn.ConvTranspose2d(c // 2, 3, 4, 2, 1)

    def example(self) -> Example:
        return (torch.randn(3, 8, 1, 1),), {}

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.up1(z)))
        h = F.relu(self.bn2(self.up2(h)))
        return torch.tanh(self.up3(h))


@motif("volume", field=True, free={"conv": 8, "up": 8})
class Volume(nn.Module):
    """Conv3d and ConvTranspose3d with BatchNorm3d."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.conv, self.bn1 = nn.Conv3d(2, c, 3, padding=1), nn.BatchNorm3d(c)
        self.up, self.bn2 = nn.ConvTranspose3d(c, c, 2, 2), nn.BatchNorm3d(c)
        self.out = nn.Conv3d(c, 1, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 2, 4, 4, 4),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.bn1(self.conv(x)), 0.2)
        return self.out(F.relu(self.bn2(self.up(h))))


# A depthwise layer has one row per channel: the rows go with the channel they carry.
@motif("depthwise_transposed", field=True, free={"conv": 16, "up.weight:0": 16})
class DepthwiseTransposed(nn.Module):
    """Depthwise ConvTranspose2d between two convolutions."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.up, self.bn = nn.ConvTranspose2d(c, c, 4, 2, 1, groups=c), nn.BatchNorm2d(c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.bn(self.up(self.conv(x)))))


# An input depthwise layer (multiplier 4) is tied to the image by its groups: with 3 groups of 4
# outputs, position j of each of the three groups can go together, so all 12 rows are free.
@motif("depthwise_multiplier", free={"dw": 12, "pw": 16, "mid": 16})
class DepthwiseMultiplier(nn.Module):
    """Separable convolutions: depthwise with a channel multiplier on the image, then plain."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.dw = nn.Conv2d(3, 3 * (c // 4), 3, padding=1, groups=3)
        self.pw = nn.Conv2d(3 * (c // 4), c, 1)
        self.mid = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.mid(F.silu(self.pw(F.silu(self.dw(x)))))))


# Four groups of four: the j-th channel of every group goes at once, or a whole group goes.
@motif("grouped_conv", field=True, free={"conv": 16, "body": 16})
class GroupedConv(nn.Module):
    """Grouped Conv2d (4 groups) between plain convolutions."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.body, self.bn = nn.Conv2d(c, c, 3, padding=1, groups=4), nn.BatchNorm2d(c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.bn(self.body(F.relu(self.conv(x))))))


@motif("grouped_transposed", field=True, free={"conv": 16, "up.bias:0": 8})
class GroupedTransposed(nn.Module):
    """Grouped ConvTranspose2d (4 groups), fewer outputs than inputs."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.up = nn.ConvTranspose2d(c, c // 2, 4, 2, 1, groups=4)
        self.bn = nn.BatchNorm2d(c // 2)
        self.out = nn.Conv2d(c // 2, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.bn(self.up(F.relu(self.conv(x))))))


# 4 groups of 8 meet 2 groups of 16: the common refinement still lets every channel go.
@motif("grouped_mixed", free={"conv": 32, "a": 32, "b": 32})
class GroupedMixed(nn.Module):
    """Grouped convolutions with different numbers of groups, in a row (ResNeXt-like)."""

    def __init__(self, c: int = 32):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.a = nn.Conv2d(c, c, 3, padding=1, groups=4)
        self.b = nn.Conv2d(c, c, 1, groups=2)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.b(F.relu(self.a(F.relu(self.conv(x)))))))


# The skip ties stem, both second convolutions and the shortcut; the inner ones go alone.
@motif("residual", free={"stem": 12, "a1": 12, "a2": 12, "b1": 12, "b2": 12, "short": 12})
class Residual(nn.Module):
    """Two residual blocks, one with a learned shortcut, nearest upsampling in between."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.a1, self.a2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.b1, self.b2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.short = nn.Conv2d(c, c, 1)
        self.bn = nn.BatchNorm2d(c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + self.a2(F.relu(self.a1(h)))
        h = F.interpolate(h, scale_factor=2, mode="nearest")
        h = self.short(h) + self.b2(F.relu(self.bn(self.b1(F.relu(h)))))
        return torch.tanh(self.out(h))


@motif("unet", field=True, free={"down1": 8, "down2": 16, "up": 8})
class UNet(nn.Module):
    """U-Net: concatenation of the skip with a ConvTranspose2d."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.down1 = nn.Conv2d(3, c, 4, 2, 1)
        self.down2, self.bn = nn.Conv2d(c, 2 * c, 4, 2, 1), nn.BatchNorm2d(2 * c)
        self.up, self.bn2 = nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.BatchNorm2d(c)
        self.out = nn.ConvTranspose2d(2 * c, 3, 4, 2, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 8, 8),), {}

    def forward(self, x: Tensor) -> Tensor:
        d1 = F.leaky_relu(self.down1(x), 0.2)
        d2 = F.leaky_relu(self.bn(self.down2(d1)), 0.2)
        return torch.tanh(self.out(torch.cat([self.bn2(self.up(d2)), d1], 1)))


# PReLU carries one slope per channel: a rider.
@motif("prelu", free={"conv": 16, "body": 16})
class PReLU(nn.Module):
    """PReLU with one slope per channel, and one with a single shared slope."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv, self.act1 = nn.Conv2d(3, c, 3, padding=1), nn.PReLU(c)
        self.body, self.act2 = nn.Conv2d(c, c, 3, padding=1), nn.PReLU()
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act2(self.body(self.act1(self.conv(x)))))


# Hidden features of the MLP are free: Linear layers are nothing special.
@motif("mlp", free={"a": 32, "b": 32})
class MLP(nn.Module):
    """The original GAN: a stack of Linear layers, the image made by a final view."""

    def __init__(self, c: int = 32):
        super().__init__()
        self.a, self.bn = nn.Linear(8, c), nn.BatchNorm1d(c)
        self.b = nn.Linear(c, c)
        self.out = nn.Linear(c, 48)

    def example(self) -> Example:
        return (torch.randn(4, 8),), {}

    def forward(self, z: Tensor) -> Tensor:
        h = F.leaky_relu(self.bn(self.a(z)), 0.2)
        return torch.tanh(self.out(F.leaky_relu(self.b(h), 0.2))).view(-1, 3, 4, 4)


@motif("unpooling", free={"stem": 16, "mid": 16})
class Unpooling(nn.Module):
    """SegNet: what was pooled goes back to the places of its maxima."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem, self.mid = nn.Conv2d(4, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 4, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h, places = F.max_pool2d(self.stem(x), 2, return_indices=True)
        return self.out(F.max_unpool2d(F.relu(self.mid(h)), places, 2))


@motif("bag_of_words", free={"words.weight:1": 16, "stem": 16})
class BagOfWords(nn.Module):
    """The mean of word embeddings, added to features."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.words, self.stem = nn.EmbeddingBag(7, c), nn.Conv2d(4, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 4, 6, 6), torch.tensor([[0, 3, 5], [1, 1, 6]])), {}

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return self.out(F.relu(self.stem(x) + self.words(text)[:, :, None, None]))


# Offsets and modulation are places, not channels; two groups of offsets stay equally large.
@motif("deformable", free={"first": 16, "bent": 16, "second": 12})
class Deformable(nn.Module):
    """torchvision's deformable convolution, modulated, with two groups of offsets."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.first = nn.Conv2d(4, c, 3, padding=1)
        self.offset = nn.Conv2d(4, 2 * 2 * 9, 3, padding=1)
        self.strength = nn.Conv2d(4, 2 * 9, 3, padding=1)
        self.bent = DeformConv2d(c, c, 3, padding=1)
        self.second = DeformConv2d(c, c * 3 // 4, 3, padding=1, bias=False)
        self.out = nn.Conv2d(c * 3 // 4, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 4, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        offset, mask = self.offset(x), torch.sigmoid(self.strength(x))
        h = F.relu(self.bent(F.relu(self.first(x)), offset, mask))
        return self.out(F.relu(self.second(h, offset[:, :18])))
