"""Sizes that a forward asks of a config, of one attribute in many places, or of a tensor."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


class FromLatent(nn.Module):
    """Base with a latent example."""

    def example(self) -> Example:
        return (torch.randn(2, 6),), {}


class Half(nn.Module):
    """A residual block that drops the second half of its skip."""

    def __init__(self, config: Any, c: int):
        super().__init__()
        self.config = config
        self.a, self.b = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = x[:, : x.shape[1] // 2]
        return skip + self.b(F.leaky_relu(self.a(F.leaky_relu(x)), 0.1))


# The view counts by fours, the skip keeps half of what there is: eight channels of the latent's
# projection go with two of the skip's, and the config's width follows.
@motif("config_object", free={"start.weight:0": 64, "block.a": 16, "block.b": 8})
class ConfigObject(FromLatent):
    """BigGAN-deep as published for PyTorch: one config object in every module."""

    def __init__(self, c: int = 4):
        super().__init__()
        self.config = SimpleNamespace(width=c, latent=6, name="deep")
        self.start = nn.Linear(6, 4 * c * 4)
        self.block = Half(self.config, 4 * c)
        self.out = nn.Conv2d(2 * c, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.start(z).view(-1, 2, 2, 4 * self.config.width).permute(0, 3, 1, 2)
        return torch.tanh(self.out(F.leaky_relu(self.block(h), 0.1)))


class Settings(dict):  # type: ignore[type-arg]
    """A dictionary that can be asked by attribute, as vocoders have it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@motif("config_dict", free={"start.weight:0": 48, "up": 8})
class ConfigDict(FromLatent):
    """Sizes in a dictionary, and in a dictionary of that."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.h = Settings(channels=c, up=Settings(channels=c * 2 // 3), kernels=[3, 7])
        self.start = nn.Linear(6, c * 4)
        self.up = nn.ConvTranspose1d(c, c * 2 // 3, 4, 2, 1)
        self.out = nn.Conv1d(c * 2 // 3, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.up(F.leaky_relu(self.start(z).view(-1, self.h["channels"], 4), 0.1))
        assert h.shape[1] == self.h.up.channels
        return torch.tanh(self.out(F.leaky_relu(h, 0.1)))


# One attribute sizes both layers: a channel of b goes with two of a.
@motif("attribute_multiples", free={"start.weight:0": 64, "b.weight:0": 32})
class AttributeMultiples(FromLatent):
    """`view(-1, self.ngf * 4, ...)`, and `self.ngf * 2` after the next layer."""

    def __init__(self, c: int = 4):
        super().__init__()
        self.ngf = c
        self.start, self.b = nn.Linear(6, c * 4 * 4), nn.Linear(c * 4 * 4, c * 2 * 4)
        self.out = nn.Conv2d(c * 2, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = F.leaky_relu(self.start(z).view(-1, self.ngf * 4, 2, 2), 0.1)
        h = self.b(h.flatten(1)).view(-1, self.ngf * 2, 2, 2)
        return torch.tanh(self.out(F.leaky_relu(h, 0.1)))


# Widths asked of the features: one channel of theta goes with four of the stem.
@motif("widths_of_features", free={"stem": 16, "theta": 4, "g": 8, "o": 16})
class WidthsOfFeatures(nn.Module):
    """Non-local block whose views ask the features for their width."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.theta, self.g = nn.Conv2d(c, c // 4, 1, bias=False), nn.Conv2d(c, c // 2, 1)
        self.o, self.out = nn.Conv2d(c // 2, c, 1), nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 4, 4),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        _, ch, height, width = h.size()
        theta = self.theta(h).view(-1, ch // 4, height * width)
        g = self.g(h).view(-1, ch // 2, height * width)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), theta), -1)
        a = torch.bmm(g, beta).view(-1, ch // 2, height, width)
        return self.out(h + self.o(a))


# Heads from an attribute, the width of a head from the features: whole heads go.
@motif("heads_of_features", free={"qkv": 36, "o": 12})
class HeadsOfFeatures(nn.Module):
    """`heads, dim = self.heads, x.shape[1] // self.heads`, as einops works it out."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.heads = 4
        self.stem, self.qkv = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 3 * c, 1, bias=False)
        self.o, self.out = nn.Conv1d(c, c, 1), nn.Conv1d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.stem(x)).chunk(3, dim=1)
        q, k, v = (self._split(p) for p in parts)
        a = torch.softmax(q.transpose(1, 2) @ k, -1)
        h = (v @ a).reshape(x.shape[0], -1, x.shape[2])
        return self.out(F.leaky_relu(self.o(h), 0.1))

    def _split(self, x: Tensor) -> Tensor:
        b, c, n = x.shape
        return x.reshape(b * self.heads, c // self.heads, n)
