"""Live cuts in a row: numbers in Python follow their channels from cut to cut, and on resume."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc

Sizes = namedtuple("Sizes", "width depth")
WIDE = 32


class Net(nn.Module):
    """A latent to `width()` maps of 2 by 2, which Python counts in some way."""

    held = WIDE

    def __init__(self, numbers: Any, width: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.numbers, self.width = numbers, width
        self.fc, self.mid = nn.Linear(6, WIDE * 4), nn.Conv2d(WIDE, 12, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(12), nn.Conv2d(12, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.fc(z).relu().view(-1, self.width(self), 2, 2)
        return self.out(self.norm(self.mid(h)).relu())


# The number that is held, and how the forward makes the width of it.
WAYS: dict[str, tuple[Any, Any]] = {
    "times": (8, lambda n: 4 * n.numbers),
    "products": (8, lambda n: n.numbers * 2 * 2),
    "half": (64, lambda n: n.numbers // 2),
    "shift": (8, lambda n: n.numbers << 2),
    "two": ([4, 8], lambda n: n.numbers[0] * n.numbers[1]),
    "tuple": ((32, 2, 2), lambda n: n.numbers[0]),
    "size": (torch.Size([32, 2]), lambda n: n.numbers[0]),
    "dict": ({"z": 6, "ngf": 8}, lambda n: n.numbers["ngf"] * 4),
    "by_resolution": ({2: 32, 4: 12}, lambda n: n.numbers[2]),
    "config": (
        SimpleNamespace(ngf=8, deep={"by": 4}),
        lambda n: n.numbers.ngf * n.numbers.deep["by"],
    ),
    "named": (Sizes(16, 3), lambda n: 2 * n.numbers.width),
    "nested": ([[8, 3], [2, 4]], lambda n: n.numbers[0][0] * n.numbers[1][1]),
    "numpy": (np.int64(16), lambda n: n.numbers * 2),
    "numpy_as_int": (np.int32(32), lambda n: int(n.numbers)),
    "array": (np.array([8, 4]), lambda n: n.numbers[0] * 4),
    "tensor": (torch.tensor(32), lambda n: int(n.numbers)),
    "class": (None, lambda n: n.held),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_cut_is_exact_and_the_number_follows(way: str) -> None:
    z = torch.randn(3, 6)
    net = Net(*WAYS[way]).eval()
    masked = gc.wrap(net, z, target="params=4x")
    cuts = 0
    for progress in (0.3, 0.6, 1.0):
        masked.advance(progress)
        with torch.no_grad():
            wanted = net(z)
            cuts += masked.shrink() is not None
            assert torch.allclose(net(z), wanted, atol=1e-5)
        assert int(net.width(net)) == net.mid.in_channels
    assert cuts > 1
    assert net.mid.in_channels < WIDE
    assert type(net.numbers) is type(WAYS[way][0])
    again = gc.wrap(Net(*WAYS[way]).eval(), z, target="params=4x")
    again.load_state_dict(masked.state_dict())
    assert again.graph.widths == masked.graph.widths
    assert sum(p.numel() for p in masked.prune().parameters()) <= masked.original.params / 4 * 1.02


def test_numbers_of_other_networks_stay() -> None:
    shared = {"ngf": 8}
    one, other = (Net(shared, lambda n: n.numbers["ngf"] * 4).eval() for _ in range(2))
    masked = gc.wrap(one, torch.randn(3, 6), target="params=2x")
    masked.advance(1.0)
    masked.shrink()
    assert one.numbers["ngf"] < 8
    assert Net.held == WIDE
    assert other.numbers is shared
    assert shared == {"ngf": 8}


def check(x: Tensor, *wanted: int) -> None:
    """One line compares for everybody."""
    assert tuple(x.shape[1:]) == wanted, f"got {tuple(x.shape)}"


class Checked(nn.Module):
    def __init__(self, wide: int, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.channels, self.resolution, self.again = wide, wide, wide
        self.conv, self.inner = nn.Conv2d(wide, wide, 1), inner or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        check(x, self.channels, self.resolution, self.resolution)
        if x.shape[1] != self.again:
            raise ValueError(f"{x.shape[1]} for {self.again}")
        return self.conv(self.inner(x)).relu()


def test_widths_that_several_modules_check_by_one_line() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), Checked(8, Checked(8, Checked(8))), Checked(8), nn.Conv2d(8, 3, 1)
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    assert [r.prunable for r in gc.inspect(net, x).rows] == [8] * 5 + [0]
    masked = gc.wrap(net, x, target="params=2.5x")
    for progress in (0.5, 1.0):
        masked.advance(progress)
        masked.shrink()
    small = masked.prune()
    assert torch.allclose(small(x), net(x), atol=1e-5)
    first: Any = small[1]  # type: ignore[index]
    assert first.channels == first.again == small[0].out_channels < 8  # type: ignore[index]
    assert first.resolution == 8
