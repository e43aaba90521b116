"""Index maps: reshapes, shuffles, splits, concatenations, repeats, rolls, padding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


class Stem(nn.Module):
    """Linear stem, reshaped by `image`, then BatchNorm2d and two convolutions."""

    def __init__(self, c: int):
        super().__init__()
        self.c = c
        self.fc, self.bn = nn.Linear(8, c * 16), nn.BatchNorm2d(c)
        self.conv, self.out = nn.Conv2d(c, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(3, 8),), {}

    def image(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.bn(self.image(self.fc(z))))
        return self.out(F.relu(self.conv(h)))


# Channel i owns 16 consecutive rows of fc. The literal pins them in Python only.
@motif(
    "linear_view_literal",
    field=True,
    free={"conv": 8},
    graph_free={"fc": 192},
    kept={"fc": ("[-1, 12, 4, 4]",)},
)
class LinearViewLiteral(Stem):
    """Linear -> view(-1, 12, 4, 4): the number of channels is a literal in the source."""

    def __init__(self, c: int = 12):
        super().__init__(c)
        self.conv = nn.Conv2d(c, 2 * c // 3, 3, padding=1)
        self.out = nn.Conv2d(2 * c // 3, 3, 3, padding=1)

    def image(self, h: Tensor) -> Tensor:
        return h.view(-1, 12, 4, 4)


@motif("linear_view_attribute", free={"fc": 192, "conv": 8})
class LinearViewAttribute(LinearViewLiteral):
    """Linear -> view(-1, self.c, 4, 4): an integer attribute that has to be repaired."""

    def image(self, h: Tensor) -> Tensor:
        return h.view(-1, self.c, 4, 4)


@motif("linear_view_tuple", free={"fc": 192, "conv": 8})
class LinearViewTuple(LinearViewLiteral):
    """The shape is a tuple attribute, as in nn.Unflatten and MONAI."""

    def __init__(self, c: int = 12):
        super().__init__(c)
        self.unflatten = nn.Unflatten(1, (c, 4, 4))

    def image(self, h: Tensor) -> Tensor:
        return self.unflatten(h)


# Channel i owns rows i, c+i, 2c+i ... of fc.
@motif("linear_view_channel_last", free={"fc": 192, "conv": 8})
class LinearChannelLast(LinearViewLiteral):
    """Linear -> view(-1, 4, 4, C) -> permute."""

    def image(self, h: Tensor) -> Tensor:
        return h.view(h.shape[0], 4, 4, -1).permute(0, 3, 1, 2).contiguous()


# Four consecutive channels of `up` make one channel of the larger picture: whole blocks go.
@motif("pixel_shuffle", field=True, free={"conv": 16, "up": 32})
class PixelShuffle(nn.Module):
    """Sub-pixel convolution; the final one makes the image and is not free."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 2 * c, 1)
        self.out = nn.Conv2d(c // 2, 12, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(F.pixel_shuffle(self.up(F.relu(self.conv(x))), 2), 0.2)
        return F.pixel_shuffle(self.out(h), 2)


@motif("pixel_unshuffle", free={"conv": 4, "body": 16})
class PixelUnshuffle(nn.Module):
    """Space to depth by the operator, and back by view and permute."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, c // 4, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c // 4, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.body(F.pixel_unshuffle(F.relu(self.conv(x)), 2)))
        n, _, height, width = h.shape
        h = h.view(n, -1, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return self.out(h.reshape(n, -1, 2 * height, 2 * width))


# Shuffle of two groups between grouped convolutions: channels go in pairs or finer.
@motif("channel_shuffle", free={"conv": 16, "a": 16, "b": 16})
class ChannelShuffle(nn.Module):
    """ShuffleNet: grouped 1x1 convolutions with view, transpose, view between them."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.a, self.b = nn.Conv2d(c, c, 1, groups=2), nn.Conv2d(c, c, 1, groups=2)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(F.relu(self.conv(x))))
        n, _, height, width = h.shape
        h = h.view(n, 2, -1, height, width).transpose(1, 2).reshape(n, -1, height, width)
        return self.out(F.relu(self.b(h)))


# Value and gate of one channel go together: c/2 groups of two rows.
@motif("glu", field=True, free={"conv": 24, "body": 24})
class GLU(nn.Module):
    """FastGAN gating: F.glu on the channels, then chunk and sigmoid by hand."""

    def __init__(self, c: int = 24):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c)
        self.body = nn.Conv2d(c // 2, c, 3, padding=1)
        self.out = nn.Conv2d(c // 2, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.body(F.glu(self.bn(self.conv(x)), dim=1)).chunk(2, dim=1)
        return self.out(a * torch.sigmoid(b))


# The split point is an attribute: repaired, both parts shrink on their own.
@motif("split_attribute", free={"conv": 16, "a": 8, "b": 8})
class SplitAttribute(nn.Module):
    """torch.split with sizes from attributes; the two parts live on separately."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.left, self.right = c // 2 - 2, c // 2 + 2
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.a = nn.Conv2d(self.left, c // 2, 3, padding=1)
        self.b = nn.Conv2d(self.right, c // 2, 3, padding=1)
        self.out = nn.Conv2d(c // 2, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(F.relu(self.conv(x)), [self.left, self.right], 1)
        return self.out(F.relu(self.a(a)) + F.relu(self.b(b)))


# With literals the first part is read by `[:, :6]` and the rest by `[:, 6:]`: the prefix must
# keep its 6 channels, the remainder can go. The graph form reaches the prefix too.
@motif(
    "split_literal", free={"conv.weight:0": 10, "a": 8, "b": 8}, graph_free={"conv.weight:0": 16}
)
class SplitLiteral(nn.Module):
    """Literal split point in a slice."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.a, self.b = nn.Conv2d(6, c // 2, 3, padding=1), nn.Conv2d(c - 6, c // 2, 1)
        self.out = nn.Conv2d(c // 2, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv(x))
        return self.out(F.relu(self.a(h[:, :6])) + F.relu(self.b(h[:, 6:])))


# The prefix of the wide features is tied to the narrow ones; the dropped tail goes alone.
@motif("skip_prefix", free={"stem": 16, "c1": 8, "c2": 8, "mid": 8})
class SkipPrefix(nn.Module):
    """BigGAN-deep: the skip keeps the first channels, `x[:, :out]`, out from an attribute."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.width = c // 2
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.c1, self.c2 = nn.Conv2d(c, c // 2, 1), nn.Conv2d(c // 2, c // 2, 3, padding=1)
        self.mid = nn.Conv2d(c // 2, c // 2, 3, padding=1)
        self.out = nn.Conv2d(c // 2, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.c2(F.relu(self.c1(F.relu(x))))
        if x.shape[1] != self.width:
            x = x[:, : self.width]
        x = x + h
        return self.out(F.relu(x + self.mid(F.relu(x))))


# The skip grows by concatenation with new channels from a 1x1 convolution (BigGAN-deep's D).
@motif("cat_offsets", free={"a": 8, "b": 8, "grow": 6})
class CatOffsets(nn.Module):
    """Concatenations whose first part cannot go: the input, a constant, a coordinate grid."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.a = nn.Conv2d(3, c, 3, padding=1)
        self.b = nn.Conv2d(c + 3, c, 3, padding=1)
        self.grow = nn.Conv2d(c + 2, c - 2, 1)
        self.out = nn.Conv2d(2 * c, 3, 3, padding=1)
        self.register_buffer("grid", torch.randn(1, 2, 5, 5))

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.b(torch.cat([x, F.relu(self.a(x))], 1)))
        h = torch.cat([self.grid.expand(x.shape[0], -1, -1, -1), h], 1)
        return self.out(torch.cat([self.grow(h), h], 1))


# Zero channels are appended to reach the wider sum: `a` is tied to the first half of `b`. The
# appended half is added to nothing, so those rows of b could go too, but the pad is a literal.
@motif("channel_pad", free={"a": 8, "b.weight:0": 8}, graph_free={"b.weight:0": 16})
class ChannelPad(nn.Module):
    """F.pad on the channel dimension (shortcut of type A)."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 2 * c, 3, padding=1)
        self.out = nn.Conv2d(2 * c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.out(F.relu(F.pad(h, (0, 0, 0, 0, 0, 8)) + self.b(F.relu(h))))


# Repeating the features r times makes a reader with r columns per channel.
@motif("repeat_features", free={"conv": 8, "body": 12})
class Repeat(nn.Module):
    """repeat, tile and stack-flatten of features along the channels."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.body, self.out = nn.Conv2d(4 * c, c + c // 2, 1), nn.Conv2d(3 * c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv(x))
        h = torch.cat([h.repeat(1, 2, 1, 1), torch.tile(h, (1, 2, 1, 1)) ** 2], 1)
        h = F.relu(self.body(h))
        return self.out(torch.stack([h, -h.abs()], dim=2).flatten(1, 2))


# Space only is rolled and flipped: channels are untouched.
@motif("roll_flip", free={"conv": 12, "body": 12})
class RollFlip(nn.Module):
    """roll, flip and rot90 over space, narrow, unfold and fold."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = torch.roll(F.relu(self.conv(x)), (1, 2), dims=(2, 3))
        h = h + torch.rot90(h.flip(-1), 1, (2, 3))
        h = F.fold(F.unfold(h, 2, stride=2), (6, 6), 2, stride=2)
        return self.out(F.relu(self.body(h.narrow(2, 1, 5))))


# The order table lists positions of all channels: it pins `conv`. What follows is free.
@motif("index_select", free={"body": 12}, graph_free={"conv": 12}, kept={"conv": ("index",)})
class IndexSelect(nn.Module):
    """Channels permuted by a stored table (index_select), then used."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)
        self.register_buffer("order", torch.randperm(12))

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = torch.index_select(F.relu(self.conv(x)), 1, self.order)
        return self.out(F.relu(self.body(h)))
