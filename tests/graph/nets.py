"""Random small generators: a list of (block, width, option) is a network.

Every block maps features (n, c, h, w) to features and may read a style vector, so any list is a
valid network. By construction only the image channels and the style are fixed: every hidden channel
is free, whatever the combination.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Spec = Sequence[tuple[str, int, int]]

WIDTHS = (4, 6, 8, 12)
STYLE = 5
BLOCKS: dict[str, Callable[[int, int, int], Block]] = {}


class Block(nn.Module):
    """A step of a random network; `out` is the number of channels it writes."""

    out: int

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        raise NotImplementedError


def block(cls: type[Block]) -> type[Block]:
    BLOCKS[cls.__name__.lower()] = cls
    return cls


def conv(i: int, o: int, k: int = 3, **options: int | bool) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


@block
class Plain(Block):
    """Convolution and an activation that may or may not keep zero."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.conv = width, conv(c, width, 1 + 2 * (option % 2), bias=option % 3 > 0)
        self.act = (F.relu, torch.sigmoid, F.softplus, F.gelu)[option % 4]

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.act(self.conv(x))


@block
class Normed(Block):
    """Convolution under spectral or weight norm, in both APIs."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, home = width, (nn.utils, parametrizations)[option % 2]
        norm = home.spectral_norm if option % 4 > 1 else home.weight_norm
        kind = nn.ConvTranspose2d if option // 4 % 2 else nn.Conv2d
        self.conv = norm(kind(c, width, 3, padding=1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x), 0.2)


@block
class Norm(Block):
    """Batch, instance or group norm, with or without affine parameters."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out = c
        affine = option % 2 > 0
        groups = next((g for g in (3, 2, 4) if c % g == 0 and c // g > 1), c)
        self.norm = (
            nn.BatchNorm2d(c, affine=affine),
            nn.InstanceNorm2d(c, affine=affine, track_running_stats=option % 5 > 2),
            nn.GroupNorm(groups, c, affine=affine),
        )[option // 2 % 3]

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.norm(x)


@block
class Grouped(Block):
    """Grouped or depthwise convolution, plain or transposed."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        groups = next((g for g in ((c, 2, 3) if option % 2 else (2, 3, c)) if c % g == 0), c)
        self.out = c
        if option % 4 > 1:
            self.conv: nn.Module = nn.ConvTranspose2d(c, c, 3, padding=1, groups=groups)
        else:
            self.conv = conv(c, c, groups=groups)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return F.elu(self.conv(x))


@block
class Residual(Block):
    """Sum with the input; the branch has its own width."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.a, self.b = c, conv(c, width), conv(width, c, 1)
        self.norm = nn.BatchNorm2d(width) if option % 2 else nn.PReLU(width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return x + 0.5 * self.b(torch.sigmoid(self.norm(self.a(x))))


@block
class Concat(Block):
    """The features beside new ones, in either order, or a fixed map first."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.conv, self.order = c + width, conv(c, width), option % 3
        if self.order == 2:
            self.out += 1
        self.map = nn.Parameter(torch.randn(1, 1, 1, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        new = F.relu(self.conv(x))
        if self.order == 2:
            ones = self.map.expand(x.shape[0], 1, *x.shape[2:])
            return torch.cat([ones, new, x], 1)
        return torch.cat([x, new] if self.order else [new, x], 1)


@block
class Gate(Block):
    """GLU: chunk, split or F.glu, sigmoid gate."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.conv, self.kind = width, conv(c, 2 * width), option % 3

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = self.conv(x)
        if self.kind == 0:
            return F.glu(h, dim=1)
        a, b = h.chunk(2, 1) if self.kind == 1 else h.split(h.shape[1] // 2, 1)
        return a * torch.sigmoid(b)


@block
class Divide(Block):
    """Unequal split by attributes; one part is processed, the parts are joined again."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.left = c // 2 - (option % 2)
        self.right = c - self.left
        self.out, self.conv = width + self.left, conv(self.right, width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        a, b = torch.split(x, [self.left, self.right], 1)
        return torch.cat([a, F.relu(self.conv(b))], 1)


@block
class Shuffle(Block):
    """Pixel shuffle after a convolution, or pixel unshuffle before one."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.down = option % 2 > 0
        self.out = width
        self.conv = conv(4 * c, width, 1) if self.down else conv(c, 4 * width, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.down:
            return F.relu(self.conv(F.pixel_unshuffle(F.interpolate(x, scale_factor=2), 2)))
        return F.avg_pool2d(F.relu(F.pixel_shuffle(self.conv(x), 2)), 2)


@block
class Up(Block):
    """Strided transposed convolution or interpolation, then back to the size before."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.kind = width, option % 3
        self.conv = (
            conv(c, width) if self.kind else nn.ConvTranspose2d(c, width, 4, stride=2, padding=1)
        )

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.kind:
            mode = "nearest" if self.kind == 1 else "bilinear"
            x = F.interpolate(x, scale_factor=2, mode=mode)
        return F.max_pool2d(F.leaky_relu(self.conv(x), 0.2), 2)


@block
class Attention(Block):
    """Self-attention over positions: bmm, or heads of two channels."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.kind = c, option % 3
        self.q, self.k, self.v = conv(c, width, 1), conv(c, width, 1), conv(c, width, 1)
        self.o = conv(width, c, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        q, k, v = (f(x).flatten(2) for f in (self.q, self.k, self.v))
        if self.kind == 0:
            a = torch.softmax(torch.bmm(q.transpose(1, 2), k) * 0.4, -1)
            h = torch.bmm(v, a.transpose(1, 2))
        elif self.kind == 1:
            a = torch.einsum("ncp,ncq->npq", q, k).softmax(-1)
            h = torch.einsum("npq,ncq->ncp", a, v)
        else:
            q, k, v = (t.view(t.shape[0], -1, 2, t.shape[2]).transpose(2, 3) for t in (q, k, v))
            h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(1, 2)
        return x + self.o(h.reshape(x.shape[0], -1, *x.shape[2:]))


@block
class Excite(Block):
    """Squeeze and excitation, or a one-channel spatial gate."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.spatial = c, option % 3 == 0
        self.a, self.b = nn.Linear(c, width), nn.Linear(width, c)
        self.gate = conv(c, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.spatial:
            return x * torch.sigmoid(self.gate(x))
        gate = torch.sigmoid(self.b(F.relu(self.a(x.mean((2, 3))))))
        return x * gate.view(*gate.shape, 1, 1)


@block
class Style(Block):
    """AdaIN, conditional gain and bias, or a modulated and demodulated convolution."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.kind = option % 3
        self.out = width if self.kind == 2 else c
        self.affine = nn.Linear(STYLE, c if self.kind == 2 else 2 * c)
        self.weight = nn.Parameter(torch.randn(1, width, c, 3, 3) * 0.2)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = self.affine(style)
        if self.kind < 2:
            scale, shift = h[:, :, None, None].chunk(2, 1)
            x = F.instance_norm(x) if self.kind else x
            return x * (1 + scale) + shift
        n, c, height, width = x.shape
        weight = self.weight * (1 + h.view(n, 1, c, 1, 1))
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        weight = weight.reshape(-1, c, 3, 3)
        y = F.conv2d(x.reshape(1, n * c, height, width), weight, padding=1, groups=n)
        return y.view(n, -1, height, width)


@block
class Last(Block):
    """Channel-last Linear layers (an MLP per position), or a Linear over flattened features."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.flat = option % 2 > 0
        self.out = width
        self.a = nn.Linear(c * 36 if self.flat else c, width * (36 if self.flat else 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.flat:
            return F.relu(self.a(x.flatten(1))).view(x.shape[0], -1, *x.shape[2:])
        return F.relu(self.a(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


@block
class Twice(Block):
    """One convolution called twice, channels shuffled or flipped in between."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.out, self.conv, self.kind = c, conv(c, c), option % (2 + (c % 2 == 0))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        if self.kind == 1:
            x = x.flip(1)
        elif self.kind == 2:
            n, _, height, width = x.shape
            x = x.view(n, 2, -1, height, width).transpose(1, 2).reshape(n, -1, height, width)
        return F.relu(self.conv(x))


@block
class Prefix(Block):
    """The skip keeps the first channels only; their number is an attribute."""

    def __init__(self, c: int, width: int, option: int):
        super().__init__()
        self.keep = c // 2
        self.out, self.a, self.b = self.keep, conv(c, width), conv(width, self.keep)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return x[:, : self.keep] + self.b(F.relu(self.a(x)))


class RandomNet(nn.Module):
    """Image in, image out, through the blocks of a spec."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.stem = conv(3, 8)
        blocks, c = [], 8
        for kind, width, option in spec:
            made = BLOCKS[kind](c, width, option)
            blocks.append(made)
            c = made.out
        self.blocks = nn.ModuleList(blocks)
        self.head = conv(c, 3)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        h = self.stem(x)
        for made in self.blocks:
            h = made(h, style)
        return self.head(h)


def draw_spec(seed: int, most: int = 6) -> Spec:
    """Return the network number `seed`, for runs of many."""
    rng = random.Random(seed)
    names = sorted(BLOCKS)
    count = rng.randint(1, most)
    return [(rng.choice(names), rng.choice(WIDTHS), rng.randint(0, 29)) for _ in range(count)]


def example() -> tuple[Tensor, Tensor]:
    """Return inputs of a random network."""
    rng = torch.Generator().manual_seed(5)
    return torch.randn(2, 3, 6, 6, generator=rng), torch.randn(2, STYLE, generator=rng)
