"""Graph form: what trains stays live, what counts is held, and any keyword may be used."""

from __future__ import annotations

import numbers
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc


class Reads(nn.Module):
    """Reads a parameter by another way than its name."""

    def __init__(self, hold: Any, read: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(5, 12), nn.Linear(12, 3)
        self.shift = nn.Parameter(torch.randn(1, 12))
        self.held, self.read = hold(self.shift), read

    def forward(self, z: Tensor) -> Tensor:
        return self.b((self.a(z) + self.read(self.held)).relu())


HOLDERS: dict[str, tuple[Any, Any]] = {
    "list": (lambda p: [p], lambda h: h[0]),
    "dict": (lambda p: {"p": (None, p)}, lambda h: h["p"][1]),
    "object": (lambda p: SimpleNamespace(p=p), lambda h: h.p),
    "view": (lambda p: [p.view(12)], lambda h: h[0]),
}


@pytest.mark.parametrize("way", HOLDERS)
def test_a_parameter_reached_otherwise_stays_live(way: str) -> None:
    z = torch.randn(4, 5)
    masked = gc.wrap(Reads(*HOLDERS[way]).eval(), z, form="graph", target="params=1.5x")
    masked.advance(1.0)
    for net in (masked.generator, masked.prune()):
        shift = dict(net.named_parameters())["shift"]
        net(z).square().sum().backward()
        assert shift.grad is not None
        assert shift.grad.abs().sum() > 0
        before = net(z)
        with torch.no_grad():
            shift.add_(1.0)
        assert not torch.equal(net(z), before)
        with torch.no_grad():
            shift.sub_(1.0)


class Counting(nn.Module):
    """Moves a vector under no_grad in train() only, in a part of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.register_buffer("u", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            v = F.normalize(self.u, dim=0)
            if self.training:
                self.u[:] = v
        return self.fc(x) * v


def test_parts_have_the_mode_of_their_module() -> None:
    x = torch.randn(3, 6)
    form = gc.to_graph(nn.Sequential(Counting(), nn.ReLU(), Counting()).eval(), x)
    assert not [n for n, m in form.named_modules() if m.training]
    assert torch.equal(form(x), form(x))
    form.get_submodule("0").train()
    form(x)
    assert form.get_buffer("0.u")[0] < 0.5
    assert form.get_buffer("2.u")[0] == 1


class Region(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.i, self.o = i, o
        self.weight, self.style = nn.Parameter(torch.randn(o, i, 3, 3) / 6), nn.Linear(5, i)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        n = x.shape[0]
        w = self.weight[None] * self.style(z).view(n, 1, self.i, 1, 1)
        with torch.autocast("cpu", enabled=False):
            x = F.conv2d(x.reshape(1, n * self.i, 4, 4), w.view(n * self.o, self.i, 3, 3),
                         padding=1, groups=n)  # fmt: skip
        return x.view(n, self.o, 4, 4).relu()


class Regions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.start, self.mods = nn.Linear(5, 8 * 16), nn.ModuleList(Region(8, 8) for _ in range(2))
        self.rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.start(z).view(-1, 8, 4, 4)
        for mod in self.mods:
            x = mod(x, z)
        return self.rgb(x)


def test_regions_of_equal_width_share_no_size() -> None:
    z = torch.randn(2, 5)
    assert [g.size for g in gc.trace(Regions().eval(), z, form="graph").groups] == [8, 8, 8]
    masked = gc.wrap(Regions().eval(), z, form="graph", target="params=3x")
    masked.advance(1.0)
    small = masked.prune()
    for n in (1, 4):
        z = torch.randn(n, 5)
        assert torch.allclose(masked.generator(z), small(z), atol=1e-5)


COUNTED = {
    "mean": lambda h: h * (h.square().mean() + 1e-6).rsqrt(),
    "std": lambda h: h / (h.std() + 1e-3),
    "var": lambda h: h * (h.var((0, 1), keepdim=True) + 1e-3).rsqrt(),
    "norm": lambda h: h / (h.norm() + 1e-3),
    "merged": lambda h: h * (h.reshape(1, -1, 4, 4).square().mean(1, True) + 1e-6).rsqrt(),
}


class Normed(nn.Module):
    def __init__(self, step: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.step = nn.Conv2d(3, 10, 1), nn.Conv2d(10, 3, 1), step

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.step(self.a(x)))


@pytest.mark.parametrize("name", COUNTED)
def test_statistics_over_batch_and_channels_hold_their_count(name: str) -> None:
    x, net = torch.randn(2, 3, 4, 4), Normed(COUNTED[name]).eval()
    assert gc.inspect(net, x, form="graph").rows[0].prunable == 10
    masked = gc.wrap(net, x, form="graph", target="params=2x")
    masked.advance(1.0)
    small = masked.prune()
    for n in (2, 5):
        x = torch.randn(n, 3, 4, 4)
        assert torch.allclose(masked.generator(x), small(x), atol=1e-4)
        assert torch.allclose(gc.to_graph(net, x)(x), net(x), atol=1e-5)


class AsksOnly(Regions):
    def forward(self, z: Tensor) -> Tensor:
        assert type(z.size(0)) in (int, float)
        assert issubclass(type(len(z)), int)
        assert isinstance(z.shape[0], numbers.Integral)
        return self.rgb(self.start(z).view(int(z.shape[0] / 1), 8, 4, 4))


def test_batch_sizes_pass_for_numbers() -> None:
    net, before = AsksOnly().eval(), set(globals())
    form = gc.to_graph(net, torch.randn(2, 5))
    assert set(globals()) == before
    for n in (1, 3):
        z = torch.randn(n, 5)
        assert torch.allclose(form(z), net(z), atol=1e-6)


@pytest.mark.parametrize("inside", ["mod", "args", "fn", "module"])
def test_any_keyword_may_be_used(inside: str) -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor, **given: Tensor) -> Tensor:
            return x * given[inside][:, :, None, None]

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.style = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1), nn.Linear(4, 8)
            self.inner = Inner()

        def forward(self, x: Tensor, mod: Tensor) -> Tensor:
            return self.b(self.inner(self.a(x), **{inside: self.style(mod)}))

    net, x, z = Outer().eval(), torch.randn(2, 3, 4, 4), torch.randn(2, 4)
    masked = gc.wrap(net, (x,), {"mod": z}, form="graph", target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    assert torch.allclose(masked.generator(x, mod=z), small(x, mod=z), atol=1e-5)
    assert torch.allclose(gc.to_graph(net, (x,), {"mod": z})(x, mod=z), net(x, mod=z), atol=1e-5)


def test_not_a_number_in_a_statistic_is_no_crash() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)).eval()
    net[1].running_var[1] = float("nan")
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(gc.to_graph(net, x)(x).isnan(), net(x).isnan())
