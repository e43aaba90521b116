"""Fourier and wavelet units: frequencies are space, real and imaginary parts are channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


# Channel i of the features is rows i and c+i of the spectrum's convolution.
@motif("fourier_cat", free={"stem": 8, "freq": 16})
class FourierCat(nn.Module):
    """Fourier unit: real and imaginary parts concatenated, convolved, chunked, inverted."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.freq, self.bn = nn.Conv2d(2 * c, 2 * c, 1), nn.BatchNorm2d(2 * c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        spectrum = torch.fft.rfft2(h, norm="ortho")
        f = torch.cat([spectrum.real, spectrum.imag], 1)
        real, imag = F.relu(self.bn(self.freq(f))).chunk(2, 1)
        return self.out(h + torch.fft.irfft2(torch.complex(real, imag), s=h.shape[2:]))


# LaMa interleaves: the parts of one channel are neighbours.
@motif("fourier_stack", free={"stem": 8, "freq": 16})
class FourierStack(nn.Module):
    """LaMa's fast Fourier convolution: stack, permute, view, and back."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.stem, self.freq = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(2 * c, 2 * c, 1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        n = h.shape[0]
        f = torch.fft.rfftn(h, dim=(-2, -1), norm="ortho")
        f = torch.stack((f.real, f.imag), dim=-1).permute(0, 1, 4, 2, 3).contiguous()
        f = F.relu(self.freq(f.view(n, -1, *f.shape[3:])))
        f = f.view(n, -1, 2, *f.shape[2:]).permute(0, 1, 3, 4, 2).contiguous()
        back = torch.fft.irfftn(
            torch.complex(f[..., 0], f[..., 1]), s=h.shape[-2:], dim=(-2, -1), norm="ortho"
        )
        return self.out(back + h)


# A fixed 2x2 Haar bank, depthwise: four sub-bands a channel, concatenated by slicing.
@motif("haar_wavelet", free={"stem": 4, "body": 16})
class Haar(nn.Module):
    """Haar analysis by strided slices, a convolution on the sub-bands, synthesis by shuffle."""

    def __init__(self, c: int = 4):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(4 * c, 4 * c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        a, b = h[:, :, 0::2, 0::2], h[:, :, 0::2, 1::2]
        c, d = h[:, :, 1::2, 0::2], h[:, :, 1::2, 1::2]
        bands = torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 2
        bands = F.relu(self.body(bands))
        return self.out(F.pixel_shuffle(bands, 2))


# The spectrum is filtered by one complex weight per channel (GFNet, AFNO).
@motif("spectral_filter", free={"stem": 8, "body": 8})
class SpectralFilter(nn.Module):
    """Complex parameters: a learned filter per channel and frequency."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.filter = nn.Parameter(torch.randn(c, 6, 4, 2) * 0.3)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        f = torch.fft.rfft2(self.stem(x)) * torch.view_as_complex(self.filter)
        return self.out(F.relu(self.body(F.relu(torch.fft.irfft2(f, s=(6, 6))))))
