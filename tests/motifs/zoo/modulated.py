"""Weights and statistics that depend on the latent: AdaIN, SPADE, StyleGAN2, BigGAN, predicted."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


# The affine map writes scale and shift of one channel as two rows that go together with it.
@motif("adain", field=True, free={"conv": 12, "affine": 24, "body": 12})
class AdaIN(nn.Module):
    """Adaptive instance norm: Linear -> chunk -> scale and shift."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.affine = nn.Linear(8, 2 * c)
        self.body = nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6), torch.randn(2, 8)), {}

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        h = F.instance_norm(self.conv(x)) * (1 + scale) + shift
        return self.out(F.relu(self.body(F.relu(h))))


@motif("film", free={"conv": 12, "gain": 12, "bias": 12})
class FiLM(nn.Module):
    """Feature-wise modulation by two Linear layers, conditional batch norm by an embedding."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c, affine=False)
        self.gain, self.bias = nn.Linear(8, c, bias=False), nn.Linear(8, c)
        self.embed = nn.Embedding(5, 2 * c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6), torch.randn(2, 8), torch.tensor([1, 3])), {}

    def forward(self, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        h = self.bn(self.conv(x)) * (1 + self.gain(z)[..., None, None])
        h = h + self.bias(z)[..., None, None]
        gamma, beta = self.embed(y).chunk(2, 1)
        h = gamma.view(y.shape[0], -1, 1, 1) * h + beta.view(y.shape[0], -1, 1, 1)
        return self.out(F.relu(h))


# gamma and beta are tied to the normalised features, the shared convolution goes alone.
@motif("spade", field=True, free={"stem": 12, "shared": 8, "gamma": 12, "beta": 12, "body": 12})
class SPADE(nn.Module):
    """Spatially adaptive normalisation of GauGAN, inside a residual block."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.norm = nn.BatchNorm2d(c, affine=False)
        self.shared = nn.Conv2d(4, c - c // 3, 3, padding=1)
        self.gamma = nn.Conv2d(c - c // 3, c, 3, padding=1)
        self.beta = nn.Conv2d(c - c // 3, c, 3, padding=1)
        self.body = nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6), torch.rand(2, 4, 3, 3)), {}

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        h = self.stem(x)
        seg = F.interpolate(seg, size=h.shape[2:], mode="nearest")
        a = F.relu(self.shared(seg))
        normed = self.norm(h) * (1 + self.gamma(a)) + self.beta(a)
        return self.out(h + self.body(F.leaky_relu(normed, 0.2)))


class ModulatedConv(nn.Module):
    """StyleGAN2: weights scaled per sample, demodulated, run as one grouped convolution."""

    def __init__(self, i: int, o: int, k: int, dim: int, demodulate: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, o, i, k, k))
        self.affine = nn.Linear(dim, i)
        self.scale, self.demodulate = (i * k * k) ** -0.5, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        n, i, height, width = x.shape
        style = self.affine(w).view(n, 1, i, 1, 1)
        weight = self.scale * self.weight * (style + 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        o, k = weight.shape[1], weight.shape[-1]
        weight = weight.view(n * o, i, k, k)
        out = F.conv2d(x.reshape(1, n * i, height, width), weight, padding=k // 2, groups=n)
        return out.view(n, o, out.shape[2], out.shape[3])


# A modulated convolution reads with its affine rows as well: they go with its input channels.
@motif(
    "modulated_conv",
    field=True,
    free={"stem": 8, "a.weight:1": 8, "a.affine": 8, "b.affine": 8},
)
class Modulated(nn.Module):
    """Two StyleGAN2 modulated convolutions after a plain one."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.a = ModulatedConv(c, c, 3, 8)
        self.b = ModulatedConv(c, 3, 1, 8, demodulate=False)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5), torch.randn(2, 8)), {}

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.b(F.leaky_relu(self.a(self.stem(x), w), 0.2), w)


# Mapping: m1 hidden is free; m2 writes w, which every affine reads: free too. The constant has
# its channels in dim 1 and goes with a's inputs; noise is one map, broadcast over the channels.
@motif(
    "stylegan2",
    free={
        "m1": 8,
        "m2": 8,
        "const:1": 8,
        "a.affine": 8,
        "a.weight:1": 8,
        "b.affine": 8,
        "b.weight:1": 8,
        "rgb1.affine": 8,
        "rgb2.affine": 8,
    },
)
class StyleGAN2(nn.Module):
    """Constant input, noise, demodulation, upsampling and image skips, latent per layer."""

    def __init__(self, c: int = 8):
        super().__init__()
        self.m1, self.m2 = nn.Linear(6, c), nn.Linear(c, c)
        self.const = nn.Parameter(torch.randn(1, c, 4, 4))
        self.a, self.b = ModulatedConv(c, c, 3, c), ModulatedConv(c, c, 3, c)
        self.rgb1 = ModulatedConv(c, 3, 1, c, demodulate=False)
        self.rgb2 = ModulatedConv(c, 3, 1, c, demodulate=False)
        self.noise = nn.Parameter(torch.full((2,), 0.1))
        self.bias_a, self.bias_b = nn.Parameter(torch.zeros(c)), nn.Parameter(torch.zeros(c))
        self.register_buffer("map_b", torch.randn(1, 1, 8, 8))

    def example(self) -> Example:
        return (torch.randn(2, 6),), {}

    def forward(self, z: Tensor) -> Tensor:
        w = self.m2(F.leaky_relu(self.m1(z * torch.rsqrt((z * z).mean(1, True) + 1e-8)), 0.2))
        w = w.unsqueeze(1).repeat(1, 4, 1)
        x = self.const.repeat(z.shape[0], 1, 1, 1)
        x = self.a(x, w[:, 0])
        x = x + self.noise[0] * torch.randn(x.shape[0], 1, 4, 4, dtype=x.dtype, device=x.device)
        x = F.leaky_relu(x + self.bias_a.view(1, -1, 1, 1), 0.2)
        image = self.rgb1(x, w[:, 1])
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.b(x, w[:, 2]) + self.noise[1] * self.map_b
        x = F.leaky_relu(x + self.bias_b[None, :, None, None], 0.2)
        return F.interpolate(image, scale_factor=2) + self.rgb2(x, w[:, 3])


class GBlock(nn.Module):
    """BigGAN block: conditional batch norm from the latent slot and the class, upsampling."""

    def __init__(self, i: int, o: int, cond: int, spectral: bool):
        super().__init__()
        norm = parametrizations.spectral_norm if spectral else (lambda m: m)
        self.bn1, self.bn2 = nn.BatchNorm2d(i, affine=False), nn.BatchNorm2d(o, affine=False)
        self.gain1, self.bias1 = norm(nn.Linear(cond, i, False)), norm(nn.Linear(cond, i, False))
        self.gain2, self.bias2 = norm(nn.Linear(cond, o, False)), norm(nn.Linear(cond, o, False))
        self.conv1 = norm(nn.Conv2d(i, o, 3, padding=1))
        self.conv2 = norm(nn.Conv2d(o, o, 3, padding=1))
        self.short = norm(nn.Conv2d(i, o, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        n = y.shape[0]
        h = self.bn1(x) * (1 + self.gain1(y)).view(n, -1, 1, 1) + self.bias1(y).view(n, -1, 1, 1)
        h = self.conv1(F.interpolate(F.relu(h), scale_factor=2))
        h = self.bn2(h) * (1 + self.gain2(y)).view(n, -1, 1, 1) + self.bias2(y).view(n, -1, 1, 1)
        return self.conv2(F.relu(h)) + self.short(F.interpolate(x, scale_factor=2))


def _block(name: str, i: int, o: int) -> dict[str, int]:
    sizes = {"gain1": i, "bias1": i, "gain2": o, "bias2": o, "conv1": o, "conv2": o, "short": o}
    return {f"{name}.{layer}": size for layer, size in sizes.items()}


class BigGAN(nn.Module):
    """Hierarchical latent, shared class embedding, conditional norms; two blocks."""

    def __init__(self, c: int, spectral: bool):
        super().__init__()
        norm = parametrizations.spectral_norm if spectral else (lambda m: m)
        self.shared = nn.Embedding(5, 4)
        self.linear = norm(nn.Linear(4, c * 4))
        self.b0, self.b1 = GBlock(c, c, 8, spectral), GBlock(c, c // 2, 8, spectral)
        self.bn, self.out = nn.BatchNorm2d(c // 2), norm(nn.Conv2d(c // 2, 3, 3, padding=1))
        self.slots = 3
        for _ in range(6 if spectral else 0):
            self(*self.example()[0])

    def example(self) -> Example:
        return (torch.randn(3, 12), torch.tensor([0, 2, 4])), {}

    def stem(self, z: Tensor) -> Tensor:
        return self.linear(z).view(z.shape[0], -1, 2, 2)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        zs = torch.split(z, z.shape[1] // self.slots, 1)
        label = self.shared(y)
        h = self.stem(zs[0])
        for block, slot in zip((self.b0, self.b1), zs[1:], strict=True):
            h = block(h, torch.cat([label, slot], 1))
        return torch.tanh(self.out(F.relu(self.bn(h))))


# The class embedding writes 4 numbers read beside the latent slot: free, but an Embedding is
# neither convolution nor Linear and is not counted.
BIGGAN_FREE = {"linear": 32, **_block("b0", 8, 8), **_block("b1", 8, 4)}


@motif("biggan", free=BIGGAN_FREE)
class BigGANPlain(BigGAN):
    """The BigGAN stack, batch-first view, no spectral norm."""

    def __init__(self, c: int = 8):
        super().__init__(c, spectral=False)


@motif("biggan_spectral", field=True, free=BIGGAN_FREE)
class BigGANSpectral(BigGAN):
    """The BigGAN stack with spectral norm on every layer."""

    def __init__(self, c: int = 8):
        super().__init__(c, spectral=True)


# view(-1, 8, 2, 2) pins the stem and what is tied to it by b0's own skip-free input: the block
# has a learned shortcut, so only the stem, gain1 and bias1 of b0 depend on the literal.
@motif(
    "biggan_literal",
    field=True,
    free={k: v for k, v in BIGGAN_FREE.items() if k not in ("linear", "b0.gain1", "b0.bias1")},
    graph_free={"linear": 32, "b0.gain1": 8, "b0.bias1": 8},
    kept={"linear": ("[-1, 8, 2, 2]",)},
)
class BigGANLiteral(BigGAN):
    """The BigGAN stack whose stem reshapes to a literal number of channels."""

    def __init__(self, c: int = 8):
        super().__init__(c, spectral=False)

    def stem(self, z: Tensor) -> Tensor:
        return self.linear(z).view(-1, 8, 2, 2)


# The predicted kernel has both channel dims in one row vector of the Linear: its rows go with the
# outputs or with the inputs. One of the two is a choice of channels, the other stays whole.
@motif("predicted_kernel", free={"predict": 16, "hidden": 8}, graph_free={"stem": 4})
class Predicted(nn.Module):
    """A hypernetwork predicts a 1x1 convolution kernel, one for the batch."""

    def __init__(self, c: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.hidden, self.predict = nn.Linear(6, 2 * c), nn.Linear(2 * c, c * c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)
        self.register_buffer("key", torch.randn(6))

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        kernel = self.predict(F.relu(self.hidden(self.key))).view(-1, h.shape[1], 1, 1)
        return self.out(F.relu(F.conv2d(h, kernel)))
