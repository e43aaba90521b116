"""DCGAN and StyleGAN2 in their own layers, written down from the papers for timing alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class DCGAN(nn.Sequential):
    """Generator of 64 px from 100 numbers (Radford et al. 2016, Figure 1): (n, 100, 1, 1)."""

    def __init__(self, ngf: int = 64) -> None:
        layers: list[nn.Module] = []
        widths = [100, 8 * ngf, 4 * ngf, 2 * ngf, ngf]
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
            step = (1, 0) if i == 0 else (2, 1)
            layers += [nn.ConvTranspose2d(a, b, 4, *step, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        super().__init__(*layers, nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False), nn.Tanh())


class Modulated(nn.Module):
    """Convolution of the style-scaled input, demodulated (Karras et al. 2020, Eq. 1 and 3).

    Input and output are scaled, not the weight: the same in exact arithmetic, and one convolution
    for the whole batch.
    """

    def __init__(self, reads: int, writes: int, style: int, kernel: int, norm: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(writes, reads, kernel, kernel))
        self.style = nn.Linear(style, reads)
        nn.init.ones_(self.style.bias)
        self.bias = nn.Parameter(torch.zeros(writes))
        self.gain, self.norm, self.padding = 1 / math.sqrt(reads * kernel**2), norm, kernel // 2

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return (n, writes, h, w) of (n, reads, h, w) and styles (n, style)."""
        style, weight = self.style(w), self.weight * self.gain
        y = functional.conv2d(x * style[:, :, None, None], weight, padding=self.padding)
        if self.norm:
            power = style.square() @ weight.square().sum((2, 3)).t()
            y = y * torch.rsqrt(power + 1e-8)[:, :, None, None]
        return y + self.bias[:, None, None]


class StyleGAN2(nn.Module):
    """Synthesis with skips and a mapping (Karras et al. 2020, Figure 7b), no noise.

    Args:
        widths: channels at 4 px, 8 px and so on, each twice as large as the one before.
        style: numbers of a latent and of a style.
        depth: layers of the mapping.
    """

    def __init__(self, widths: Sequence[int] = (64,) * 5, style: int = 64, depth: int = 2) -> None:
        super().__init__()
        layers = [(nn.Linear(style, style), nn.LeakyReLU(0.2)) for _ in range(depth)]
        self.mapping = nn.Sequential(*(part for layer in layers for part in layer))
        self.const = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.first = Modulated(widths[0], widths[0], style, 3)
        self.up = nn.ModuleList(Modulated(a, b, style, 3) for a, b in pairwise(widths))
        self.same = nn.ModuleList(Modulated(b, b, style, 3) for b in widths[1:])
        self.rgb = nn.ModuleList(Modulated(b, 3, style, 1, norm=False) for b in widths[1:])

    def forward(self, z: Tensor) -> Tensor:
        """Return pictures (n, 3, size, size) of (n, style)."""
        w = self.mapping(z)
        x = self.const.expand(len(z), -1, -1, -1)
        x = functional.leaky_relu(self.first(x, w), 0.2)
        picture = x.new_zeros(len(z), 3, 4, 4)
        for up, same, rgb in zip(self.up, self.same, self.rgb, strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = functional.leaky_relu(up(x, w), 0.2)
            x = functional.leaky_relu(same(x, w), 0.2)
            picture = functional.interpolate(picture, scale_factor=2.0, mode="bilinear") + rgb(x, w)
        return picture


def stylegan2_1024() -> StyleGAN2:
    """Return config F of 1024 px in its published widths, without noise and blur."""
    widths = [min(512, 32768 // 2**k) for k in range(2, 11)]
    return StyleGAN2(widths, style=512, depth=8)
