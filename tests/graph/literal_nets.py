"""Small generators that hold sizes as literal numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.wrapping import Masked

Z = 6


class Motif(nn.Module):
    """Latent to 16 channels, a motif with sizes in it, and an image out."""

    inside = 16

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(Z, 16 * 9)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(self.inside, 3, 1)

    def start(self, z: Tensor) -> Tensor:
        return self.first(z).unflatten(1, (-1, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        return x

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(self.start(z))))
        return torch.tanh(self.last(self.body(x)))


class View(Motif):
    factor = 1.0

    def start(self, z: Tensor) -> Tensor:
        return self.first(z).view(-1, 16, 3, 3) * torch.tensor(self.factor)


class Doubled(View):
    """Differs in the value of a constant only."""

    factor = 2.0


class Halved(nn.Module):
    """Its constant, made in the forward, is sized in Python too."""

    def forward(self, x: Tensor) -> Tensor:
        n = torch.IntTensor([8])
        return x[:, : int(n[0])] * torch.tensor([[2.0], [3.0]]).prod()


class Inner(Motif):
    """A constant inside of a part."""

    inside = 8

    def __init__(self) -> None:
        super().__init__()
        self.halved = Halved()

    def body(self, x: Tensor) -> Tensor:
        return self.halved(x)


class Split(Motif):
    inside = 8

    def body(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, 8, dim=1)
        return a * torch.sigmoid(b)


class SplitUnevenly(Motif):
    inside = 20

    def body(self, x: Tensor) -> Tensor:
        a, b = x.split([12, 4], dim=1)
        return torch.cat([a, b * 2, b], 1)


class Asserted(Motif):
    def body(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (16, 3, 3), "sixteen channels"
        return x


class Heads(Motif):
    def body(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        q = x.view(b, 4, 4, 9)
        weights = torch.softmax(q @ q.transpose(2, 3) / 2, -1)
        return (weights @ q).reshape(b, 16, 3, 3)


class Zeros(Motif):
    inside = 32

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([x + torch.zeros(x.shape[0], 16, 3, 3), x + torch.ones(16, 1, 1)], 1)


class Slice(Motif):
    inside = 12

    def body(self, x: Tensor) -> Tensor:
        return x[:, :12] * 2


class SliceTail(Motif):
    inside = 4

    def body(self, x: Tensor) -> Tensor:
        return x[:, -4:] * torch.tensor(2.0)


class Narrow(Motif):
    inside = 8

    def body(self, x: Tensor) -> Tensor:
        return x.narrow(1, 4, 8)


class Repeat(Motif):
    inside = 32

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, 1, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        b = self.bias.repeat(x.shape[0], 16, 1, 1)
        return (x + b + self.bias.expand(x.shape[0], 16, 3, 3)).repeat(1, 2, 1, 1)


class Merged(Motif):
    """Per-sample weights folded into the batch, as in modulated convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        w = self.weight[None] * x.mean((2, 3)).view(b, 1, 16, 1, 1)
        w = w.reshape(b * 16, 16, 3, 3)
        return F.conv2d(x.reshape(1, b * 16, 3, 3), w, padding=1, groups=b).view(b, 16, 3, 3)


class Grouped(Motif):
    """Numbers of groups, written as literals."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Parameter(torch.randn(16, 1, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        return F.group_norm(F.conv2d(x, self.depth, padding=1, groups=16), 8)


class Contexts(Motif):
    """Parts under autocast and no_grad, one in the other, that are given the batch size."""

    def body(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        with torch.autocast("cpu", enabled=False):
            y = x.reshape(1, n * 16, 3, 3) * 2
            with torch.no_grad():
                strength = y.view(n, 16, 9).mean(2)
            y = y.view(n, 16, 3, 3)
        return y * strength[:, :, None, None]


MOTIFS = [
    View, Split, SplitUnevenly, Asserted, Heads, Zeros, Slice, SliceTail, Narrow, Repeat, Merged,
    Grouped, Inner, Contexts,
]  # fmt: skip
LAYERS = ("first", "conv", "norm")


def build(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    net = kind()
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_()
                m.running_mean.normal_()  # type: ignore[union-attr]
                m.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return net


def latents(n: int = 3) -> tuple[Tensor]:
    return (torch.randn(n, Z, generator=torch.Generator().manual_seed(n)),)


def train(masked: Masked, steps: int = 3) -> None:
    """Adversary-free training: every parameter and every mask moves."""
    net = masked.generator.train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(steps):
        loss = (net(*latents(4 + step)) - 0.3).square().mean() + 1e-3 * masked.penalty()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
        optimizer.step()
    net.eval()
