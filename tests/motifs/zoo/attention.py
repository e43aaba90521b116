"""Attention in all its spellings: bmm, einsum, SDPA, MultiheadAttention, windows, linear."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


# theta and phi contract with one another, g with o: four groups, nothing is pinned.
@motif(
    "self_attention",
    field=True,
    free={"stem": 16, "theta": 4, "phi": 4, "g": 8, "o": 16},
)
class SelfAttention(nn.Module):
    """SAGAN / BigGAN non-local block: view, max-pool, bmm, softmax, learned gain."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.theta, self.phi = nn.Conv2d(c, c // 4, 1, bias=False), nn.Conv2d(c, c // 4, 1)
        self.g, self.o = nn.Conv2d(c, c // 2, 1), nn.Conv2d(c // 2, c, 1)
        self.gamma = nn.Parameter(torch.tensor(0.5))
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        n, _, height, width = h.shape
        theta = self.theta(h).flatten(2)
        phi = F.max_pool2d(self.phi(h), 2).flatten(2)
        g = F.max_pool2d(self.g(h), 2).flatten(2)
        beta = torch.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        a = torch.bmm(g, beta.transpose(1, 2)).view(n, -1, height, width)
        return self.out(h + self.gamma * self.o(a))


# One attribute gives the widths of theta, phi and g: they lose channels in proportion, one of
# theta and phi with two of g.
@motif("self_attention_derived", free={"stem": 16, "o": 16, "theta": 4, "phi": 4, "g": 8})
class SelfAttentionDerived(nn.Module):
    """Non-local block as published: `view(-1, self.ch // 4, ...)`."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.ch = c
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.theta, self.phi = nn.Conv2d(c, c // 4, 1, bias=False), nn.Conv2d(c, c // 4, 1)
        self.g, self.o = nn.Conv2d(c, c // 2, 1), nn.Conv2d(c // 2, c, 1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        _, _, height, width = h.shape
        area = height * width
        theta = self.theta(h).view(-1, self.ch // 4, area)
        phi = F.max_pool2d(self.phi(h), 2).view(-1, self.ch // 4, area // 4)
        g = F.max_pool2d(self.g(h), 2).view(-1, self.ch // 2, area // 4)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        a = torch.bmm(g, beta.transpose(1, 2)).view(-1, self.ch // 2, height, width)
        return self.out(h + self.o(a))


class Tokens(nn.Module):
    """Stem to tokens, `mix`, back to an image; subclasses spell the attention."""

    def __init__(self, c: int):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 4, 4),), {}

    def mix(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        t = h.flatten(2).transpose(1, 2)
        return self.out((t + self.mix(t)).transpose(1, 2).reshape(h.shape))


# Heads of size 4. A whole head goes with its rows of q, k, v, so every row is free; the head
# count follows from the shapes.
@motif("sdpa", free={"stem": 16, "q": 16, "k": 16, "v": 16, "proj": 16})
class SDPA(Tokens):
    """scaled_dot_product_attention with fixed head size; the number of heads is `-1`."""

    def __init__(self, c: int = 16):
        super().__init__(c)
        self.q, self.k, self.v = nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, c)
        self.proj = nn.Linear(c, c)

    def mix(self, t: Tensor) -> Tensor:
        n, s, _ = t.shape
        q, k, v = (f(t).view(n, s, -1, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = F.scaled_dot_product_attention(q, k, v)
        return self.proj(a.transpose(1, 2).reshape(n, s, -1))


# The usual attributes: 4 heads of `head_dim` channels, scale stored. Heads or head channels go.
@motif("attention_heads", free={"stem": 16, "qkv": 48, "proj": 16})
class Heads(Tokens):
    """One Linear for q, k, v, reshaped by attributes, scale stored in the constructor."""

    def __init__(self, c: int = 16):
        super().__init__(c)
        self.heads, self.head_dim = 4, c // 4
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)

    def mix(self, t: Tensor) -> Tensor:
        n, s, _ = t.shape
        qkv = self.qkv(t).reshape(n, s, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        a = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(a.transpose(1, 2).reshape(n, s, self.heads * self.head_dim))


@motif("attention_einsum", free={"stem": 16, "to_qkv": 24, "to_out": 16})
class Einsum(nn.Module):
    """lucidrains style: 1x1 convolution, chunk, einsum over heads from attributes."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.heads = 2
        self.stem, self.out = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)
        self.to_qkv, self.to_out = nn.Conv2d(c, 3 * c // 2, 1), nn.Conv2d(c // 2, c, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 4, 4),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        n, _, height, width = h.shape
        q, k, v = (t.unflatten(1, (self.heads, -1)).flatten(3) for t in self.to_qkv(h).chunk(3, 1))
        sim = torch.einsum("b h d i, b h d j -> b h i j", q, k) * 0.3
        a = torch.einsum("b h i j, b h d j -> b h i d", sim.softmax(-1), v)
        a = a.permute(0, 1, 3, 2).reshape(n, -1, height, width)
        return self.out(h + self.to_out(a))


# Softmax over the features of q pins q (and k, contracted with it); v is free.
@motif(
    "attention_linear",
    free={"stem": 12, "v": 12, "o": 12},
    kept={"q": ("softmax",), "k": ("softmax",)},
)
class Linear(Tokens):
    """Linear attention: q is normalised over its features, k over the tokens."""

    def __init__(self, c: int = 12):
        super().__init__(c)
        self.q, self.k = nn.Linear(c, 8), nn.Linear(c, 8)
        self.v, self.o = nn.Linear(c, c), nn.Linear(c, c)

    def mix(self, t: Tensor) -> Tensor:
        q, k, v = self.q(t).softmax(-1), self.k(t).softmax(1), self.v(t)
        return self.o(q @ (k.transpose(1, 2) @ v))


# MultiheadAttention checks in Python that its inner width equals the embedding and derives the
# head size from it, so the embedding (and what is tied to it) stays; the layers around go.
@motif(
    "multihead_attention",
    free={"stem": 12, "up": 16},
    graph_free={"embed": 8, "mha.in_proj_weight:0": 24, "mha.out_proj": 8, "down": 8},
)
class MHA(nn.Module):
    """nn.MultiheadAttention in a pre-activation transformer block."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.embed = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 8, 1)
        self.mha = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down = nn.Linear(8, 4 * c // 3), nn.Linear(4 * c // 3, 8)
        self.out = nn.Conv2d(8, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 4, 4),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(F.relu(self.stem(x)))
        t = h.flatten(2).transpose(1, 2)
        t = t + self.mha(t, t, t, need_weights=False)[0]
        t = t + self.down(F.gelu(self.up(t)))
        return self.out(t.transpose(1, 2).unflatten(2, h.shape[2:]))


# Windows of 2x2 pixels: space is split and merged, channels only ride along.
@motif("window_attention", free={"stem": 12, "qkv": 36, "proj": 12, "fc1": 12, "fc2": 12})
class Window(nn.Module):
    """Swin-like window partition with roll, relative position bias, and an MLP."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.heads, self.head_dim = 3, c // 3
        self.stem, self.out = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.fc1, self.fc2 = nn.Linear(c, c), nn.Linear(c, c)
        self.bias = nn.Parameter(torch.randn(1, 1, 4, 4) * 0.2)

    def example(self) -> Example:
        return (torch.randn(2, 3, 4, 4),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = torch.roll(self.stem(x).permute(0, 2, 3, 1), (-1, -1), (1, 2))
        n, height, width, c = h.shape
        t = h.view(n, height // 2, 2, width // 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        t = t.reshape(-1, 4, c)
        qkv = self.qkv(t).reshape(t.shape[0], 4, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        a = (q @ k.transpose(-2, -1)) / math.sqrt(4.0) + self.bias
        a = (a.softmax(-1) @ v).transpose(1, 2).flatten(2)
        t = t + self.proj(a)
        t = t + self.fc2(F.gelu(self.fc1(t)))
        t = t.view(n, height // 2, width // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        return self.out(torch.roll(t.reshape(h.shape), (1, 1), (1, 2)).permute(0, 3, 1, 2))
