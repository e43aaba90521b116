"""Children of unusual classes: those that ask for their own class, and compiled ones."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError


class Slip(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super(self.__class__, self).forward(x)


class Endless(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super(type(self), self).forward(x)


def test_a_super_of_the_own_class_is_gated_copied_and_cut() -> None:
    z, net = torch.randn(4, 6), nn.Sequential(Slip(6, 20), nn.ReLU(), Slip(20, 3)).eval()
    before = net(z)
    masked = gc.wrap(net, z, target="params=2x")
    assert torch.equal(net(z), before)
    twin = copy.deepcopy(net)
    masked.advance(0.5)
    assert torch.equal(twin(z), before)
    masked.shrink(copies=[twin])
    masked.advance(1.0)
    small = masked.prune()
    assert torch.allclose(net(z), small(z), atol=1e-6)
    assert type(small[0]) is Slip  # type: ignore[index]
    masked.unwrap()
    assert type(net[0]) is Slip


def test_a_super_that_never_ends_is_refused_by_name() -> None:
    net = nn.Sequential(Endless(6, 20), nn.ReLU(), Endless(20, 3)).eval()
    with pytest.raises(GraphError, match=r"Endless.forward of 2 calls super\(type\(self\)"):
        gc.wrap(net, torch.randn(4, 6))
    assert type(net[0]) is Endless


def test_scripted_children_are_pruned_around() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.ReLU())
        weighty = torch.jit.script(nn.Conv2d(8, 8, 1))
    x = torch.randn(2, 3, 4, 4)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), scripted, nn.Conv2d(8, 3, 1)).eval()
    masked = gc.wrap(net, x, target="params=1.5x")
    masked.advance(1.0)
    assert torch.allclose(masked.prune()(x), net(x), atol=1e-6)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), weighty, nn.Conv2d(8, 3, 1)).eval()
    graph = gc.trace(net, x)
    assert "1 is a TorchScript module" in str(graph.reason(("0.weight", 0)))
    with pytest.raises(GraphError, match="1 is a TorchScript module"):
        gc.to_graph(net, x)
