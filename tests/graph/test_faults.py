"""One unit test for each fault that trial cuts would hide: cost, slices, zeros, groups of norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError


class Step(nn.Module):
    """conv of twelve channels, one step, conv."""

    def __init__(self, step: object, out: int = 12) -> None:
        super().__init__()
        self.a, self.b, self.step = nn.Conv2d(3, 12, 1), nn.Conv2d(out, 3, 1), step

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.step(self.a(x)))  # type: ignore[operator]


X = torch.randn(2, 3, 5, 5)


def free(net: nn.Module) -> dict[str, int]:
    """Channels that can go, by name of the group, without any trial cut."""
    return gc.trace(net.eval(), X, trial=False).widths


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_macs_of_a_grouped_convolution(groups: int, transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    net = nn.Sequential(nn.Conv2d(3, 12, 1), kind(12, 24, 3, padding=1, groups=groups))
    want = 3 * 12 * 25 + 12 * 24 * 9 * 25 // groups
    graph = gc.trace(net.eval(), X)
    assert graph.cost().macs == want
    small = gc.cut(net, gc.random_plan(graph, 0.5, 0), graph=graph)
    conv = small[1]  # type: ignore[index]
    left = 3 * conv.in_channels * 25 + conv.in_channels * conv.out_channels * 9 * 25 // groups
    assert gc.trace(small, X).cost().macs == left
    assert graph.cost(gc.random_plan(graph, 0.5, 0).widths).macs == left


def test_macs_of_a_depthwise_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12))
    assert gc.trace(net.eval(), X).cost().macs == 3 * 12 * 25 + 12 * 9 * 25


@pytest.mark.parametrize("axis", [1, -3])
def test_concatenation_along_a_negative_axis(axis: int) -> None:
    net = Step(lambda h: torch.cat([h, 2 * h], axis), out=24)
    assert free(net) == {"a": 12}
    graph = gc.trace(net.eval(), X, trial=False)
    assert graph.groups[0].slots[("b.weight", 1)].tolist() == [[i, i + 12] for i in range(12)]


def test_concatenation_along_a_negative_axis_of_space() -> None:
    net = Step(lambda h: torch.cat([h, h.flip(-1)], -1))
    assert free(net) == {"a": 12}


@pytest.mark.parametrize(("power", "zero"), [(2, True), (0.5, True), (-1, False), (-0.5, False)])
def test_only_a_positive_power_keeps_zeros(power: float, zero: bool) -> None:
    net = Step(lambda h: h * (h.abs() + 1).pow(1).mul(0).add(1), out=12)
    net.step = lambda h: h / h.pow(power).sum(1, keepdim=True)
    assert free(net) == ({"a": 12} if zero else {})


@pytest.mark.parametrize(("groups", "together"), [(12, 1), (4, 3), (3, 4), (1, 0)])
def test_group_norm_loses_whole_groups(groups: int, together: int) -> None:
    net = Step(nn.GroupNorm(groups, 12))
    if not together:
        assert free(net) == {}
        return
    assert free(net) == {"a": groups}
    slots = gc.trace(net.eval(), X, trial=False).groups[0].slots
    rows = np.arange(12).reshape(groups, together)
    assert slots[("a.weight", 0)].tolist() == slots[("step.weight", 0)].tolist() == rows.tolist()


def test_a_slice_holds_what_lies_before_its_bound() -> None:
    """``h[:, 2:7]`` means other channels as soon as one of the first seven is gone."""
    net = Step(lambda h: torch.cat([h[:, 2:7], h[:, :0]], 1) + 0 * h[:, 2:7], out=5)
    found = gc.trace(net.eval(), X).groups[0].slots[("a.weight", 0)]
    assert found.ravel().tolist() == list(range(7, 12))
    net = Step(lambda h: torch.cat([h, h[:, :4]], 1), out=16)
    found = gc.trace(net.eval(), X).groups[0].slots[("a.weight", 0)]
    assert found.ravel().tolist() == list(range(4, 12))


@pytest.mark.parametrize("kind", ["params", "macs"])
def test_marginal_cost_is_the_derivative(kind: str) -> None:
    """A square matrix over one group counts twice: 2 w, not w."""
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU())
    res = nn.Conv2d(12, 12, 3, padding=1)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.res, self.end = net, res, nn.Conv2d(12, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.start(x)
            return self.end(h + self.res(h))

    graph = gc.trace(Residual().eval(), X)
    assert list(graph.widths.values()) == [12]
    (name,) = graph.widths
    for width in (5, 12):
        costs = [getattr(graph.cost({name: n}), kind) for n in (width - 1, width)]
        slope = float(graph.marginal({name: width}, kind)[0])
        batch = graph.batch if kind == "macs" else 1
        square = 9 * (25 if kind == "macs" else 1)  # the second difference of the quadratic part
        assert slope / batch == pytest.approx(costs[1] - costs[0] + square)


def test_plans_name_layers_as_include_does() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.Conv2d(12, 4, 1)).eval()
    graph = gc.trace(net, X)
    assert gc.Plan.of(graph, {"1": [0, 3]}) == gc.Plan.of(graph, {"0": [0, 3]})
    with pytest.raises(GraphError, match="layer '2' writes can go"):
        gc.Plan.of(graph, {"2": [0]})
    with pytest.raises(GraphError, match="twice"):
        gc.Plan.of(graph, {"0": [0], "1": [1]})
    with pytest.raises(GraphError, match="keeps channel 12"):
        gc.Plan.of(graph, {"1": [12]})
