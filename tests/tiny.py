"""Small generators that the tests of graph, masks, surgery and export share."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Z = 6


class Tiny(nn.Module):
    """Latents (n, 6) to images (n, 3, 8, 8): a residual group and a free one, with batch norm."""

    def __init__(self, ch: int = 8, mid: int = 6) -> None:
        super().__init__()
        self.linear = nn.Linear(Z, ch * 4)
        self.bn1 = nn.BatchNorm2d(ch)
        self.conv1 = nn.Conv2d(ch, ch, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(ch)
        self.conv2 = nn.Conv2d(ch, mid, 3, padding=1)
        self.out = nn.Conv2d(mid, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.linear(z).unflatten(1, (-1, 2, 2))
        h = F.interpolate(h, scale_factor=2)
        h = h + self.conv1(F.relu(self.bn1(h)))
        h = F.interpolate(h, scale_factor=2)
        h = F.relu(self.conv2(F.relu(self.bn2(h))))
        return torch.tanh(self.out(h))


class Shared(nn.Module):
    """One convolution weight registered in two layers."""

    def __init__(self, ch: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, ch, 1)
        self.a = nn.Conv2d(ch, ch, 3, padding=1)
        self.b = nn.Conv2d(ch, ch, 3, padding=1)
        self.b.weight = self.a.weight
        self.out = nn.Conv2d(ch, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.out(F.relu(self.b(F.relu(self.a(h)))) + h)


class Raw(nn.Module):
    """A root that owns its parameters: a constant input and plain weights."""

    def __init__(self, ch: int = 8) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, ch, 4, 4))
        self.style = nn.Linear(Z, ch)
        self.weight = nn.Parameter(torch.randn(ch, ch, 3, 3) * 0.2)
        self.bias = nn.Parameter(torch.randn(ch) * 0.1)
        self.out = nn.Conv2d(ch, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.const * (1 + self.style(z)[:, :, None, None])
        h = F.relu(F.conv2d(h, self.weight, self.bias, padding=1))
        return self.out(h)


def sequential(ch: int = 8) -> nn.Sequential:
    """Return a generator that is a plain Sequential: images (n, 3, h, w) to the same."""
    return nn.Sequential(
        nn.Conv2d(3, ch, 3, padding=1),
        nn.BatchNorm2d(ch),
        nn.ReLU(),
        nn.Conv2d(ch, ch, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(ch, 3, 1),
    )


def normalised(kind: str, ch: int = 8) -> Tiny:
    """Return Tiny with one weight norm on all its layers: ``spectral_old``, ``weight_new`` ..."""
    net = Tiny(ch)
    name, api = kind.split("_")
    home = nn.utils if api == "old" else parametrizations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for layer in (net.linear, net.conv1, net.conv2, net.out):
            getattr(home, f"{name}_norm")(layer)
    return net


NORMALISED = ("spectral_old", "spectral_new", "weight_old", "weight_new")
KINDS = ("plain", *NORMALISED, "shared", "raw", "sequential")


def build(kind: str) -> nn.Module:
    """Return a generator by kind, seeded, with batch norm statistics that are no constants."""
    torch.manual_seed(3)
    if kind in NORMALISED:
        net: nn.Module = normalised(kind)
    else:
        makers = {"plain": Tiny, "shared": Shared, "raw": Raw, "sequential": sequential}
        net = makers[kind]()
    for sub in net.modules():
        if isinstance(sub, nn.BatchNorm2d):
            nn.init.normal_(sub.weight, 1.0, 0.3)
            nn.init.normal_(sub.bias, 0.0, 0.3)
            nn.init.normal_(sub.running_mean, 0.0, 0.3)
            nn.init.uniform_(sub.running_var, 0.6, 1.4)
    # Power iterations must have converged: their vectors are state, not noise.
    net.train()
    with torch.no_grad():
        stats = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
        for _ in range(20 if "spectral" in kind else 0):
            net(inputs(kind))
        net.load_state_dict(stats, strict=False)
    return net.eval()


def inputs(kind: str, n: int = 3, seed: int = 0) -> Tensor:
    """Return inputs of a generator by kind."""
    rng = torch.Generator().manual_seed(seed)
    if kind in ("shared", "sequential"):
        return torch.randn(n, 3, 5, 5, generator=rng)
    return torch.randn(n, Z, generator=rng)
