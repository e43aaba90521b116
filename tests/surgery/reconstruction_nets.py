"""Small networks whose second half of channels is a linear combination of the first half."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gancompress.models.layers import SpectralConv2d
from gancompress.models.normed_layers import WeightNormConv1d

C = 6


class TwoLayers(nn.Module):
    """A writer and a reader, with nothing in between: what goes can be made up for exactly."""

    def __init__(self, writer: nn.Module, reader: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.writer, self.reader, self.last = writer, reader, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.reader(self.writer(x)))


def depend_(layer: nn.Module, dim: int = 0) -> None:
    """Make the second half of a layer's outputs combinations of the first half."""
    weight = layer.weight
    half = weight.shape[dim] // 2
    mix = torch.randn(half, half, dtype=weight.dtype)
    with torch.no_grad():
        first = weight.narrow(dim, 0, half)
        weight.narrow(dim, half, half).copy_(
            torch.tensordot(mix, first, dims=([1], [dim])).movedim(0, dim)
        )
        bias = layer.bias
        if bias is not None:
            bias[half:] = mix @ bias[:half]


def conv1d() -> tuple[nn.Module, Tensor]:
    net = TwoLayers(
        nn.Conv1d(2, C, 3), nn.Conv1d(C, 4, 3, stride=2, dilation=2), nn.Conv1d(4, 1, 1)
    )
    return net, torch.randn(8, 2, 24)


def conv2d() -> tuple[nn.Module, Tensor]:
    net = TwoLayers(nn.Conv2d(2, C, 3), nn.Conv2d(C, 4, (3, 1), padding=(2, 0)), nn.Conv2d(4, 1, 1))
    return net, torch.randn(8, 2, 9, 8)


def conv3d() -> tuple[nn.Module, Tensor]:
    net = TwoLayers(nn.Conv3d(1, C, 1), nn.Conv3d(C, 3, 2), nn.Conv3d(3, 1, 1))
    return net, torch.randn(6, 1, 5, 4, 5)


def transposed() -> tuple[nn.Module, Tensor]:
    reader = nn.ConvTranspose2d(C, 4, 4, stride=2, padding=1, output_padding=1)
    return TwoLayers(nn.Conv2d(4, C, 1), reader, nn.Conv2d(4, 1, 1)), torch.randn(8, 4, 6, 5)


def transposed1d() -> tuple[nn.Module, Tensor]:
    reader = nn.ConvTranspose1d(C, 4, 5, stride=3, padding=1, dilation=2)
    return TwoLayers(nn.Conv1d(2, C, 1), reader, nn.Conv1d(4, 1, 1)), torch.randn(8, 2, 11)


def linear() -> tuple[nn.Module, Tensor]:
    return TwoLayers(nn.Linear(5, C), nn.Linear(C, 4), nn.Linear(4, 2)), torch.randn(60, 5)


def tokens() -> tuple[nn.Module, Tensor]:
    return TwoLayers(nn.Linear(3, C), nn.Linear(C, 4), nn.Linear(4, 2)), torch.randn(9, 7, 3)


def spectral() -> tuple[nn.Module, Tensor]:
    reader = parametrizations.spectral_norm(nn.Conv2d(C, 4, 3))
    return TwoLayers(nn.Conv2d(4, C, 1), reader, nn.Conv2d(4, 1, 1)), torch.randn(8, 4, 7, 7)


def weight_norm() -> tuple[nn.Module, Tensor]:
    reader = parametrizations.weight_norm(nn.Conv1d(C, 4, 3))
    return TwoLayers(nn.Conv1d(2, C, 1), reader, nn.Conv1d(4, 1, 1)), torch.randn(8, 2, 12)


def own_weight_norm() -> tuple[nn.Module, Tensor]:
    reader = WeightNormConv1d(C, 4, 3)
    return TwoLayers(nn.Conv1d(2, C, 1), reader, nn.Conv1d(4, 1, 1)), torch.randn(8, 2, 12)


def own_spectral() -> tuple[nn.Module, Tensor]:
    reader = SpectralConv2d(C, 4, 3, eps=1e-6)
    return TwoLayers(nn.Conv2d(2, C, 1), reader, nn.Conv2d(4, 1, 1)), torch.randn(8, 2, 7, 7)


class Equalised(nn.Module):
    """A linear layer with a constant factor on its weight, made in the forward."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(o, i)), nn.Parameter(torch.zeros(o))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * 0.3, self.bias)


def equalised() -> tuple[nn.Module, Tensor]:
    return TwoLayers(nn.Linear(3, C), Equalised(C, 4), nn.Linear(4, 2)), torch.randn(60, 3)


EXACT = [
    conv1d, conv2d, conv3d, transposed, transposed1d, linear, tokens, spectral, weight_norm,
    own_weight_norm, own_spectral, equalised,
]  # fmt: skip


class Normed(nn.Module):
    """Convolutions, batch norms and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.skip = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.one(self.norm1(x).relu())
        y = self.two(self.norm2(y).relu())
        return self.last(y + self.skip(x)).tanh()


class Grouped(nn.Module):
    """A convolution of two groups, and a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = nn.Conv2d(2, 8, 1)
        self.grouped = nn.Conv2d(8, 6, 3, groups=2)
        self.deep = nn.Conv2d(6, 6, 3, groups=6)
        self.last = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.deep(self.grouped(self.writer(x))).relu())


class Shared(nn.Module):
    """One layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.same, self.last = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.same(self.same(self.first(x)).relu()).relu())


class Noisy(nn.Module):
    """Draws noise in the forward, of a size that no cut changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.next = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 4, 3)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + torch.randn(x.shape[0], 1, *x.shape[2:], dtype=x.dtype)
        return self.last(self.next(x).relu())
