"""Idioms met in published generators: durations, masks by head, norms by hand, moved parts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


@motif("predicted_length", free={"enc": 12, "dur": 12, "dec": 12})
class PredictedLength(nn.Module):
    """How long the output is follows from predicted durations (end-to-end speech)."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.enc, self.dur = nn.Conv1d(6, c, 3, padding=1), nn.Conv1d(c, c, 1)
        self.frames, self.dec = nn.Conv1d(c, 1, 1), nn.Conv1d(c, c, 3, padding=1)
        self.out = nn.Conv1d(c, 2, 1)

    def example(self) -> Example:
        return (torch.randn(1, 6, 7),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.enc(x))
        frames = self.frames(F.relu(self.dur(h))).sigmoid().mul(3).ceil().long()[:, 0]
        end = frames.cumsum(1)
        at = torch.arange(int(end.max()))[None, :, None]
        path = (at < end[:, None]) & (at >= (end - frames)[:, None])
        h = (path.to(h) @ h.transpose(1, 2)).transpose(1, 2)
        # The mean: outputs of unlike lengths are hard to compare.
        return self.out(F.relu(self.dec(h))).mean(2)


@motif("picked_by_value", free={"stem": 12, "body": 12})
class PickedByValue(nn.Module):
    """Pixels picked by a boolean mask of the image (hue, in HSV transforms)."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(F.relu(self.body(F.relu(self.stem(x)))))
        red, green = y[:, 0], y[:, 1]
        bright = red > green
        made = torch.zeros_like(red)
        made[bright] = red[bright] * 2
        return torch.cat([made[:, None], y[:, 1:]], 1)


@motif("mask_by_head", free={"q": 16, "k": 16, "v": 16})
class MaskByHead(nn.Module):
    """Fused attention with a mask repeated for every head."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.heads = c // 4
        self.q, self.k, self.v = (nn.Linear(6, c) for _ in range(3))
        self.out = nn.Linear(c, 6)

    def example(self) -> Example:
        return (torch.randn(2, 5, 6), torch.zeros(2, 1, 5)), {}

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b = x.shape[0]
        q, k, v = (f(x) for f in (self.q, self.k, self.v))
        width = k.shape[-1] // self.heads
        q, k, v = (t.view(b, -1, self.heads, width).transpose(1, 2) for t in (q, k, v))
        mask = mask.repeat_interleave(self.heads, 0).view(b, self.heads, -1, mask.shape[-1])
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.5)
        return self.out(h.transpose(1, 2).reshape(b, -1, self.heads * width))


@motif("memory_keys", free={"q": 16, "k": 16, "v": 16})
class MemoryKeys(nn.Module):
    """Learned keys and values in front of those of the image (lucidrains)."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.memory = nn.Parameter(torch.randn(2, 3, c))
        self.none = nn.Parameter(torch.randn(0, c))
        self.q, self.k, self.v = (nn.Linear(6, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, 6)

    def example(self) -> Example:
        return (torch.randn(2, 5, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        b = len(x)
        first = [torch.cat([m, self.none]).expand(b, -1, -1) for m in self.memory]
        k, v = torch.cat((first[0], self.k(x)), 1), torch.cat((first[1], self.v(x)), 1)
        return self.out((self.q(x) @ k.mT * 0.3).softmax(-1) @ v)


class PowerIteration(nn.Module):
    """The spectral norm of SAGAN ports: its vectors are parameters that the forward replaces."""

    def __init__(self, module: nn.Conv2d):
        super().__init__()
        self.module, w = module, module.weight
        v = torch.randn(w[0].numel())
        module.weight_u = nn.Parameter(torch.randn(len(w)), requires_grad=False)
        module.weight_v = nn.Parameter(v, requires_grad=False)
        module.weight_bar = nn.Parameter(w.data)
        del module._parameters["weight"]

    def forward(self, x: Tensor) -> Tensor:
        m: Any = self.module
        flat = m.weight_bar.view(len(m.weight_bar), -1)
        for _ in range(40):
            m.weight_v.data = F.normalize(flat.data.t() @ m.weight_u.data, dim=0)
            m.weight_u.data = F.normalize(flat.data @ m.weight_v.data, dim=0)
        u, v = m.weight_u.data, m.weight_v.data
        m.weight = m.weight_bar / (u @ flat @ v)
        return m(x)


@motif(
    "power_iteration",
    free={"stem.module": 12, "body.module": 12},
)
class HandSpectral(nn.Module):
    """Spectral norm by hand, around convolutions that have no `weight` of their own."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = PowerIteration(nn.Conv2d(3, c, 3, padding=1))
        self.body = PowerIteration(nn.Conv2d(c, c, 3, padding=1))
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.body(F.relu(self.stem(x)))))


@motif("moved_parts", free={"stem": 12, "body": 12})
class MovedParts(nn.Module):
    """Parts moved to where they are, tensors named by keyword, shapes in place, scalars reduced."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem.to(x.device)(x)
        x = torch.reshape(input=x, shape=(len(x), -1, 25)).squeeze_(-1).unflatten(2, (5, 5))
        x = F.hardswish(self.body.to(x.device)(x), inplace=True)
        y = F.conv2d(input=F.mish(x, inplace=True), weight=self.out.weight, bias=self.out.bias)
        return y + y.square().mean().mean(dim=-1)


@motif("listed_widths", free={"styles": 32, "a": 12, "b": 12})
class ListedWidths(nn.Module):
    """One linear makes every style; a list of widths, some of them equal, splits it (GigaGAN)."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.widths = [c, 0, c, 8]
        self.styles = nn.Linear(4, sum(self.widths))
        self.a, self.b = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.last, self.out = nn.Conv2d(c, 8, 1), nn.Conv2d(8, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5), torch.randn(2, 4)), {}

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        first, _, second, third = self.styles(z).split(self.widths, dim=-1)
        x = F.normalize(self.a(x), dim=1) * (1 + first[:, :, None, None])
        x = self.b(x) * (1 + second[:, :, None, None])
        return self.out(self.last(x) * third[:, :, None, None])


@motif("masked_filling", free={"stem": 12, "q": 12, "v": 12})
class MaskedFilling(nn.Module):
    """Inpainting: image and mask in one tensor, and attention that must not look at the hole."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.q, self.v = nn.Conv2d(4, c, 3, padding=1), nn.Linear(c, c), nn.Linear(c, c)
        self.out = nn.Linear(c, 3)

    def example(self) -> Example:
        mask = torch.zeros(2, 1, 5, 5)
        mask[:, :, 1:3, 1:3] = 1
        return (torch.cat([torch.randn(2, 3, 5, 5), mask], 1),), {}

    def forward(self, x: Tensor) -> Tensor:
        hole = x[:, -1:].flatten(1)
        hole = torch.where(hole > 0.5, float("-inf"), 0.0)
        h = F.relu(self.stem(x)).flatten(2).mT
        scores = self.q(h) @ h.mT * 0.2 + hole[:, None]
        return self.out(scores.softmax(-1) @ self.v(h))


@motif("reordered", free={"stem": 12, "body": 12, "last": 12})
class Reordered(nn.Module):
    """Tokens sorted, gathered and put back, and pixels picked around the channels (ATD, MASA)."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 1), nn.Linear(c, c)
        self.last, self.out = nn.Linear(c, c), nn.Linear(c, 3)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h, rows = F.relu(self.stem(x)), torch.arange(5)
        h = h[torch.tensor([[0], [1]]), :, rows, rows.flip(0)]
        order = x[:, 0, 0].argsort(1)[..., None].expand(h.shape)
        h = F.relu(self.body(torch.gather(h, 1, order)))
        h = self.last(torch.zeros_like(h).scatter(1, order, h))
        return self.out(F.relu(h[torch.ones(h.shape[:2], dtype=torch.bool)]))


class Halving(nn.Module):
    """Asserts the width of a stream that other parts assert too (guided diffusion)."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.channels
        return F.avg_pool2d(x, 2)


@motif("asserted_twice", free={"stem": 12, "body": 12})
class AssertedTwice(nn.Module):
    """One stream, checked by two modules against a number of their own."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.a, self.b, self.out = Halving(c), Halving(c), nn.Conv2d(c, 3, 1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.out(self.b(h) + self.body(self.a(F.silu(h))))
