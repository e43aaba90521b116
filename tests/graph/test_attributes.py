"""Numbers in Python: found behind configs, changed without touching what the user made."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.attributes import number_at, numbers_in, write_number
from gancompress.graph.sizes import plant
from tests.motifs.zoo import MOTIFS


@dataclass(frozen=True)
class Frozen:
    width: int = 8
    wide: bool = True


class Holder(nn.Module):
    """Keeps numbers in every place where they are looked for, and in some where they are not."""

    def __init__(self) -> None:
        super().__init__()
        self.ch, self.shape, self.name = 8, (8, 4), "holder"
        self.config = SimpleNamespace(width=8, deep={"width": 16, "a b": 3}, scale=0.5)
        self.frozen = Frozen()
        self.log = logging.getLogger("gancompress.tests")
        self.inner = nn.Sequential(nn.Linear(2, 2))


def test_numbers_are_named_by_the_way_to_them() -> None:
    found = dict(numbers_in(Holder()))
    assert found == {
        "ch": 8, "shape": (8, 4), "config.width": 8, "config.deep[width]": 16, "frozen.width": 8,
    }  # fmt: skip
    assert all(number_at(Holder(), name) == value for name, value in found.items())
    assert number_at(Holder(), "config.height") is None
    assert number_at(Holder(), "nothing.at[all]") is None


def test_a_config_is_replaced_in_all_its_holders_and_left_as_it_was() -> None:
    shared = SimpleNamespace(width=8, deep={"width": 16})
    first, other = Holder(), Holder()
    first.config = first.inner.config = other.config = shared  # type: ignore[assignment]
    write_number(first, "", "config.deep[width]", 5)
    write_number(first, "inner", "config.width", 3)
    assert first.config is first.inner.config
    assert first.config == SimpleNamespace(width=3, deep={"width": 5})
    assert other.config is shared
    assert shared == SimpleNamespace(width=8, deep={"width": 16})
    write_number(first, "", "frozen.width", 2)
    assert first.frozen == Frozen(2)


def test_planting_works_on_the_copy_only() -> None:
    net = Holder()
    twin = copy.deepcopy(net)
    level = twin.log.level
    twin.frozen = net.frozen  # as a class with its own __deepcopy__ would leave it
    plant(twin)
    assert type(net.frozen.width) is int
    assert type(twin.frozen.width) is not int
    assert type(twin.log.level) is int
    assert twin.log.level == level


@pytest.mark.parametrize("name", ["config_object", "config_dict"])
def test_a_cut_config_saves_loads_and_leaves_the_other_network_alone(
    name: str, tmp_path: Path
) -> None:
    motif = MOTIFS[name]
    module, args, kwargs = motif.build()
    graph = gc.trace(module, args, kwargs)
    plan = gc.random_plan(graph, keep=0.5, seed=1)
    assert any("." in n or "[" in n for _, n, _ in plan.attributes)
    before = module(*args, **kwargs)
    small = gc.cut(module, plan, graph=graph)
    assert torch.equal(module(*args, **kwargs), before)
    gc.save(tmp_path / "small", small, plan=plan)
    again = gc.load(lambda: motif.build()[0], tmp_path / "small")
    assert torch.equal(again(*args, **kwargs), small(*args, **kwargs))


def test_live_shrink_in_place_spares_the_config_of_others() -> None:
    motif = MOTIFS["config_object"]
    module, args, kwargs = motif.build()
    teacher: Any = motif.build()[0]
    teacher.config = teacher.block.config = module.config
    masked = gc.wrap(module, args, kwargs)
    ema = copy.deepcopy(module)
    masked.apply(gc.random_plan(masked.graph, keep=0.5, seed=1))
    wanted = module(*args, **kwargs)
    masked.shrink(copies=[ema])
    torch.testing.assert_close(module(*args, **kwargs), wanted)
    ema(*args, **kwargs)
    assert module.config.width < teacher.config.width == 4


def test_a_plan_for_another_config_is_refused() -> None:
    motif = MOTIFS["config_object"]
    module, args, kwargs = motif.build()
    graph = gc.trace(module, args, kwargs)
    plan = gc.random_plan(graph, keep=0.5, seed=1)
    stranger: Any = motif.build()[0]
    stranger.config = stranger.block.config = SimpleNamespace(latent=6)
    with pytest.raises(GraphError, match=r"sets attribute 'config\.width'"):
        gc.cut(stranger, plan)


def test_sizes_asked_of_tensors_do_not_leak_out_of_the_trace() -> None:
    seen: list[Any] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            size = h.shape
            seen.append(size)
            assert isinstance(size, torch.Size)
            assert size.numel() == h.numel()
            assert h.size(1) == h.size(dim=-3) == 8
            assert {8: "eight"}[size[1]] == "eight"
            return self.b(h.view(size[0], h.size()[1], *size[2:]) * size[1] ** -0.5)

    net, x = Net(), torch.randn(2, 3, 4, 4)
    gc.trace(net, x)
    net(x)
    assert type(seen[-1][1]) is int


def test_a_division_that_other_sizes_would_not_survive() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ratio = 4
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h.view(len(x), 16 // (self.ratio // 2), *h.shape[2:]))

    net, x = Net(), torch.randn(2, 3, 4, 4)
    graph = gc.trace(net, x)
    small = gc.cut(net, gc.random_plan(graph, keep=0.5), graph=graph) if graph.groups else net
    assert small(x).shape == x.shape


class Settings(dict):  # type: ignore[type-arg]
    """A frozen dict of settings, as libraries of diffusion models keep it."""


class Private(nn.Module):
    """Sizes under names with an underscore, behind properties and in settings."""

    def __init__(self) -> None:
        super().__init__()
        self._channels, self.__mangled = 8, 12
        self._internal = Settings(middle=10)
        self.fc, self.a = nn.Linear(4, 8 * 4), nn.Conv2d(8, 12, 1)
        self.b, self.c = nn.Conv2d(12, 10, 1), nn.Conv2d(10, 3, 1)

    @property
    def width(self) -> int:
        return self._channels

    def forward(self, z: Tensor) -> Tensor:
        h = self.a(self.fc(z).view(-1, self.width, 2, 2).relu()).relu()
        h = self.b(h.view(-1, self.__mangled, 2, 2)).view(-1, self._internal["middle"], 4)
        return self.c(h.relu().unflatten(2, (2, 2)))


def test_sizes_under_private_names_are_followed() -> None:
    net, z = Private().eval(), torch.randn(3, 4)
    held = {r.layer: r.reason for r in gc.inspect(net, z).rows if r.status == "kept"}
    assert set(held) == {"c"}
    masked = gc.wrap(net, z, target="params=2x")
    for progress in (0.5, 1.0):
        masked.advance(progress)
        masked.shrink()
    small = masked.prune()
    assert small.width == small.a.in_channels < 8
    assert small._internal["middle"] == small.c.in_channels
    assert (small(z) - net(z)).abs().max() < 1e-5


def test_what_torch_keeps_under_private_names_is_no_size() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=2)
    assert not any(name.startswith("_") for name, _ in numbers_in(conv))
    kind = type("Own", (nn.Conv2d,), {"_version": 2, "__module__": "nets"})
    assert not any(name.startswith("_") for name, _ in numbers_in(kind(2, 2, 3, padding=2)))


class Multiplied(nn.Module):
    """Two layers sized by one number, one of them times another; and a part with what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.cfg, c = SimpleNamespace(ch=16, mult=(4, 2)), 16
        self.c, self.half = c, c // 2
        self.fc, self.a, self.b = nn.Linear(4, 2 * c), nn.Linear(2 * c, c), nn.Linear(8, 8)
        self.d, self.out = nn.Linear(c, c), nn.Linear(c, 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.fc(z).view(-1, self.cfg.ch * self.cfg.mult[1]).relu()
        h = self.d(self.a(h).view(-1, self.cfg.ch).relu())
        one, two = torch.split(h, [self.half, self.c - self.half], 1)
        return self.out(torch.cat([self.b(one.relu()), two], 1).relu())


def test_sizes_that_share_a_number_go_in_proportion() -> None:
    net, z = Multiplied().eval(), torch.randn(3, 4)
    held = {r.layer: r.reason for r in gc.inspect(net, z).rows if r.status == "kept"}
    assert set(held) == {"out"}
    masked = gc.wrap(net, z, target="params=3x")
    for progress in (0.4, 0.7, 1.0):
        masked.advance(progress)
        masked.shrink()
    small = masked.prune()
    assert small.fc.out_features == 2 * small.cfg.ch == 2 * small.a.out_features < 32
    assert small.cfg.mult == (4, 2)
    assert small.half == small.b.in_features
    assert small.c == small.d.out_features
    assert (small(z) - net(z)).abs().max() < 1e-5
