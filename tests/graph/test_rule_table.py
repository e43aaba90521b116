"""What single rules and the cost model say, without any trial cut that would hide a fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from tests.graph.test_faults import Step, X, free


@pytest.mark.parametrize(
    ("step", "zero"),
    [
        (torch.relu, True),
        (lambda h: h * 3 / 2, True),
        (lambda h: h + 0, True),
        (lambda h: h + h.tanh(), True),
        (lambda h: h.clamp(-1, 2), True),
        (lambda h: h * torch.cos(h), True),
        (lambda h: h / (h.abs() + 1), True),
        (torch.cos, False),
        (torch.sigmoid, False),
        (torch.exp, False),
        (lambda h: h + 1, False),
        (lambda h: 2 - h, False),
        (lambda h: h + torch.cos(h), False),
        (lambda h: torch.cos(h) + h, False),
        (lambda h: h.clamp(min=0.5), False),
        (lambda h: h.clamp(max=-0.5), False),
        (lambda h: torch.cos(h) / (h.abs() + 1), False),
        (lambda h: torch.cos(h) / (h + 0), False),
    ],
)
def test_a_sum_over_channels_frees_them_where_zeros_stay_zeros(
    step: Callable[[Tensor], Tensor], zero: bool
) -> None:
    net = Step(lambda h: h * step(h).sum(1, keepdim=True))
    assert free(net) == ({"a": 12} if zero else {})


@pytest.mark.parametrize(("order", "zero"), [(2, True), (1, True), (0, False), (-1, False)])
def test_a_norm_over_channels_frees_them_unless_it_counts_zeros(order: float, zero: bool) -> None:
    net = Step(lambda h: h * torch.linalg.vector_norm(h, order, dim=1, keepdim=True))
    assert free(net) == ({"a": 12} if zero else {})


@pytest.mark.parametrize(("affine", "zero"), [("both", True), ("weight", False), ("none", False)])
def test_a_norm_is_silent_only_through_both_of_its_vectors(affine: str, zero: bool) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 3, 1)
            self.weight = nn.Parameter(torch.ones(12)) if affine != "none" else None
            self.bias = nn.Parameter(torch.ones(12)) if affine == "both" else None
            self.register_buffer("mean", torch.zeros(12))
            self.register_buffer("var", torch.ones(12))

        def forward(self, x: Tensor) -> Tensor:
            h = F.batch_norm(self.a(x), self.mean, self.var, self.weight, self.bias)
            return self.b(h) * h.sum(1, keepdim=True)

    graph = gc.trace(Normed().eval(), X, trial=False)
    assert list(graph.widths.values()) == ([12] if zero else [])
    if zero:
        assert {n for n, _ in graph.groups[0].slots} >= {"mean", "var", "weight", "bias"}


def macs(net: nn.Module, x: Tensor) -> int:
    return gc.trace(net.eval(), x, trial=False).cost().macs


def test_multiplications_by_hand() -> None:
    assert macs(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(4, 3)) == 25
    rows = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    assert macs(rows, torch.randn(4, 7, 3)) == 7 * 25, "of each of seven positions"
    up = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 2, 4, 2, 1))
    assert macs(up, torch.randn(2, 3, 5, 5)) == 25 * 3 * 4 + 25 * 4 * 2 * 16


def test_multiplications_of_attention_are_of_two_products() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
            self.o = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (m(x).unsqueeze(1) for m in (self.q, self.k, self.v))
            return self.o(F.scaled_dot_product_attention(q, k, v).squeeze(1))

    linear = 6 * (3 * 8 * 8 + 8 * 2)
    assert macs(Attention(), torch.randn(2, 6, 8)) == linear + 2 * 6 * 6 * 8


def test_cost_counts_parameters_at_possible_widths() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1))
    graph = gc.trace(net.eval(), X)
    assert graph.cost().params == 18 + 6 + 12 + 12 + 2, "no buffers"
    assert graph.cost({"0": 2}).params == 6 + 2 + 4 + 4 + 2
    for width in (0, 7, -1):
        with pytest.raises(GraphError, match=f"width {width} of group '0' is outside 1..6"):
            graph.cost({"0": width})


def test_groups_that_one_layer_writes_have_names_of_their_own() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 10), nn.Linear(4, 2), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            one, two = self.a(x).split([4, 6], 1)
            return self.b(one) + self.c(two)

    graph = gc.trace(Halves().eval(), torch.randn(2, 3), trial=False)
    assert graph.widths == {"a": 4, "a#2": 6}
    assert graph["a#2"].slots[("a.weight", 0)].ravel().tolist() == list(range(4, 10))


def test_printed_sizes_follow_a_cut() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 12, 1),
        nn.BatchNorm2d(12),
        nn.PReLU(12),
        nn.Conv2d(12, 24, 3, padding=1, groups=3),
        nn.GroupNorm(24, 24),
        nn.ConvTranspose2d(24, 2, 2, 2),
    ).eval()
    graph = gc.trace(net, X)
    small = gc.cut(net, gc.random_plan(graph, 0.5, 1), graph=graph)
    first, norm, act, grouped, group_norm, last = small  # type: ignore[misc]
    assert first.out_channels == norm.num_features == act.num_parameters == first.weight.shape[0]
    assert first.out_channels < 12
    assert grouped.in_channels == first.out_channels
    assert grouped.out_channels == group_norm.num_channels == last.in_channels
    assert grouped.groups == 3
    assert last.out_channels == 2


def test_gates_are_on_what_reads_a_group() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 4, 1)).eval()
    group = gc.trace(net, X).groups[0]
    assert group.readers == [("2.weight", 1)]
    assert group.silencers == []
