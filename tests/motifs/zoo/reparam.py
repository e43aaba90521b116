"""Re-parametrised weights: spectral norm and weight norm in both APIs, hand-written, equalised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]
Wrap = Callable[[nn.Module], nn.Module]

hook_spectral: Wrap = lambda m: nn.utils.spectral_norm(m)  # noqa: E731
new_spectral: Wrap = lambda m: parametrizations.spectral_norm(m)  # noqa: E731
hook_weight: Wrap = lambda m: nn.utils.weight_norm(m)  # noqa: E731
new_weight: Wrap = lambda m: parametrizations.weight_norm(m)  # noqa: E731


class Image(nn.Module):
    """Linear stem, ConvTranspose2d, residual Conv2d pair, output; every weight re-parametrised."""

    def __init__(self, c: int, norm: Wrap):
        super().__init__()
        self.fc = norm(nn.Linear(8, c * 4))
        self.up, self.bn = norm(nn.ConvTranspose2d(c, c, 4, 2, 1)), nn.BatchNorm2d(c)
        self.conv = norm(nn.Conv2d(c, c, 3, padding=1))
        self.out = norm(nn.Conv2d(c, 3, 3, padding=1))
        # The power iteration must have converged, or sigma in eval mode is a random number.
        for _ in range(8):
            self(torch.randn(2, 8))

    def example(self) -> Example:
        return (torch.randn(3, 8),), {}

    def forward(self, z: Tensor) -> Tensor:
        h = self.fc(z).view(z.shape[0], -1, 2, 2)
        h = F.relu(self.bn(self.up(h)))
        return torch.tanh(self.out(h + F.relu(self.conv(h))))


class Audio(nn.Module):
    """HiFi-GAN block: Conv1d, ConvTranspose1d, two dilated residual convolutions, output."""

    def __init__(self, c: int, norm: Wrap):
        super().__init__()
        self.pre = norm(nn.Conv1d(4, c, 7, padding=3))
        self.up = norm(nn.ConvTranspose1d(c, c // 2, 4, 2, 1))
        self.r1 = norm(nn.Conv1d(c // 2, c // 2, 3, padding=1))
        self.r2 = norm(nn.Conv1d(c // 2, c // 2, 3, padding=3, dilation=3))
        self.post = norm(nn.Conv1d(c // 2, 1, 7, padding=3))

    def example(self) -> Example:
        return (torch.randn(2, 4, 9),), {}

    def forward(self, mel: Tensor) -> Tensor:
        h = self.up(F.leaky_relu(self.pre(mel), 0.1))
        h = h + self.r1(F.leaky_relu(h, 0.1))
        h = h + self.r2(F.leaky_relu(h, 0.1))
        return torch.tanh(self.post(F.leaky_relu(h, 0.1)))


# fc has c*2*2 rows, one block of four per channel: all free. Image rows (3) are not.
IMAGE_FREE = {"fc": 48, "up": 12, "conv": 12}
# The residual sum ties up, r1 and r2; the waveform row of post is not free.
AUDIO_FREE = {"pre": 16, "up": 8, "r1": 8, "r2": 8}


@motif("spectral_norm_hook", field=True, free=IMAGE_FREE)
class SpectralHook(Image):
    """torch.nn.utils.spectral_norm."""

    def __init__(self, c: int = 12):
        super().__init__(c, hook_spectral)


@motif("spectral_norm_parametrize", field=True, free=IMAGE_FREE)
class SpectralParametrize(Image):
    """torch.nn.utils.parametrizations.spectral_norm."""

    def __init__(self, c: int = 12):
        super().__init__(c, new_spectral)


@motif("weight_norm_hook", field=True, free=IMAGE_FREE)
class WeightHook(Image):
    """torch.nn.utils.weight_norm."""

    def __init__(self, c: int = 12):
        super().__init__(c, hook_weight)


@motif("weight_norm_parametrize", field=True, free=IMAGE_FREE)
class WeightParametrize(Image):
    """torch.nn.utils.parametrizations.weight_norm."""

    def __init__(self, c: int = 12):
        super().__init__(c, new_weight)


@motif("hifigan", field=True, free=AUDIO_FREE)
class HiFiGAN(Audio):
    """Conv1d and ConvTranspose1d under the hook weight norm."""

    def __init__(self, c: int = 16):
        super().__init__(c, hook_weight)


@motif("hifigan_parametrize", free=AUDIO_FREE)
class HiFiGANParametrize(Audio):
    """Conv1d and ConvTranspose1d under the parametrised weight norm."""

    def __init__(self, c: int = 16):
        super().__init__(c, new_weight)


class PowerConv(nn.Conv2d):
    """Spectral norm by hand, own u buffer, as BigGAN-PyTorch and mimicry write it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.register_buffer("u0", torch.randn(1, self.out_channels))
        self.register_buffer("sigma0", torch.ones(1))

    def normed(self) -> Tensor:
        rows = self.weight.view(self.weight.size(0), -1)
        with torch.no_grad():
            v = F.normalize(torch.matmul(self.u0, rows), eps=1e-12)
            u = F.normalize(torch.matmul(v, rows.t()), eps=1e-12)
            if self.training:
                self.u0[:] = u
        sigma = torch.squeeze(torch.matmul(torch.matmul(v, rows.t()), u.t()))
        if self.training:
            with torch.no_grad():
                self.sigma0[:] = sigma
        return self.weight / sigma

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.normed(), self.bias, self.stride, self.padding)


@motif("spectral_norm_handwritten", free={"a": 16, "b": 16})
class SpectralByHand(nn.Module):
    """Spectral norm by hand, the state in buffers that no library knows."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.a = PowerConv(3, c, 3, padding=1)
        self.b = PowerConv(c, c, 3, padding=1)
        self.out = PowerConv(c, 3, 3, padding=1)
        for _ in range(8):
            self(torch.randn(2, 3, 4, 4))

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.b(F.relu(self.a(x)))))


class EqualConv(nn.Module):
    """Equalised learning rate: a bare parameter, scaled at run time by a stored number."""

    def __init__(self, i: int, o: int, k: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i, k, k))
        self.bias = nn.Parameter(torch.zeros(o))
        self.scale, self.pad = (i * k * k) ** -0.5, k // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.pad)


@motif("equalised_lr", field=True, free={"a.weight:0": 16, "b.weight:0": 16})
class Equalised(nn.Module):
    """Functional convolutions with equalised learning rate (ProGAN, StyleGAN)."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.a, self.b, self.out = EqualConv(3, c, 3), EqualConv(c, c, 3), EqualConv(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.a(x), 0.2)
        h = F.interpolate(h, scale_factor=2)
        return self.out(F.leaky_relu(self.b(h), 0.2))


# Mean and deviation of a filter run over its inputs. Removing an input changes both, so what a
# standardised convolution reads is not free; what it writes is.
@motif("weight_standardised", free={"b": 12}, kept={"a": ("mean", "var", "std")})
class Standardised(nn.Module):
    """Weight standardisation: filters centred and scaled over their inputs at run time."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        w = self.b.weight
        w = w - w.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.var(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt()
        h = F.conv2d(F.relu(self.a(x)), w, self.b.bias, padding=1)
        return self.out(F.relu(h))


@motif("blur_pool", free={"a": 16, "b": 16})
class Blur(nn.Module):
    """A fixed filter expanded to every channel, depthwise (StyleGAN's blur, kornia)."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)
        taps = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None] / 16)

    def example(self) -> Example:
        return (torch.randn(2, 3, 8, 8),), {}

    def blur(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        return F.conv2d(x, self.kernel.expand(c, -1, -1, -1), padding=1, groups=c)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.b(self.blur(F.relu(self.a(x)))))
        c = h.shape[1]
        taps = self.kernel.repeat(c, 1, 1, 1)
        return self.out(F.conv_transpose2d(h, taps, stride=2, padding=1, groups=c))


@motif("size_of_an_index", free={"fc": 16, "mid.weight:0": 16})
class SizeOfAnIndex(nn.Module):
    """Learning rates made equal by the size of one kernel, asked of an index of the weight."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.fc, self.mid = nn.Linear(8, c * 4), nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(3, 8),), {}

    def forward(self, z: Tensor) -> Tensor:
        taps = self.mid.weight.data[0][0].numel()
        h = self.fc(z).view(z.shape[0], -1, 2, 2)
        return self.out(F.relu(F.conv2d(h, self.mid.weight * (2 / taps) ** 0.5, padding=1)))


class Folded(nn.Module):
    """Two convolutions and a shortcut, folded into one in eval(), anew in each forward (SPAN)."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.wide, self.mix = nn.Conv2d(i, 2 * i, 1), nn.Conv2d(2 * i, o, 3)
        self.short, self.folded = nn.Conv2d(i, o, 1), nn.Conv2d(i, o, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.mix(self.wide(F.pad(x, (1, 1, 1, 1)))) + self.short(x)
        assert self.wide.bias is not None
        assert self.mix.bias is not None
        assert self.short.bias is not None
        assert self.folded.bias is not None
        first, second = self.wide.weight.data, self.mix.weight.data
        flipped = F.conv2d(first.flip(2, 3).permute(1, 0, 2, 3), second, padding=2)
        weight = flipped.flip(2, 3).permute(1, 0, 2, 3)
        bias = (second * self.wide.bias.data.view(1, -1, 1, 1)).sum((1, 2, 3))
        self.folded.weight.data = weight + F.pad(self.short.weight.data, [1, 1, 1, 1])
        self.folded.bias.data = bias + self.mix.bias.data + self.short.bias.data
        return self.folded(x)


@motif(
    "folded_by_data",
    free={
        "stem": 12,
        "first.wide": 24,
        "first.mix": 12,
        "first.short": 12,
        "first.folded": 12,
        "second.wide": 24,
        "second.mix": 12,
        "second.short": 12,
        "second.folded": 12,
    },
)
class FoldedByData(nn.Module):
    """Re-parametrised convolutions that write what they fold to with ``weight.data = ...``."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(4, c, 1)
        self.first, self.second = Folded(c, c), Folded(c, c)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 4, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.first(self.stem(x)), inplace=True)
        return self.out(F.silu(self.second(h), inplace=True))
