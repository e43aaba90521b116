"""Slices, optimisers, records and followers of a cut, each by itself on tensors by hand."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.plan import Plan
from gancompress.surgery.cut_record import record_of, remember_cut
from gancompress.surgery.followers import average_in, warn_of_forgotten
from gancompress.surgery.optimizers import plan_optimizer
from gancompress.surgery.raw_tensors import gates_off, raw_tensors
from gancompress.surgery.slicing import check_plan, new_tensor, slice_tensor, sliced_copy
from gancompress.surgery.transaction import all_or_nothing


class Net(nn.Module):
    """Two layers of width 4 between, and a buffer as wide; ``width`` is a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("scale", torch.arange(4.0))
        self.register_buffer("fixed", torch.ones(2))
        self.width = 4

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x) * self.scale).reshape(-1, self.width)) * self.fixed


PLAN = Plan(
    {"a": [1, 3]},
    {"a.weight": [[1, 3], None], "a.bias": [[1, 3]], "b.weight": [None, [1, 3]], "scale": [[1, 3]]},
    [("", "width", 2)],
    {"a.weight": [4, 3], "a.bias": [4], "b.weight": [2, 4], "scale": [4]},
)


def test_a_cut_is_small_plain_runs_and_shares_nothing() -> None:
    net = Net()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    net.b.bias.requires_grad_(False)
    net.a.weight.lr_scale = 0.5
    graph = gc.trace(net, torch.randn(2, 3))
    plan = Plan.of(graph, {"a": [1, 3]})
    small = gc.cut(net, plan, graph=graph)
    assert (small.width, small.a.out_features, small.b.in_features) == (2, 2, 2)
    assert small(torch.randn(5, 3)).shape == (5, 2)
    assert torch.equal(small.a.weight, net.a.weight[[1, 3]])
    assert torch.equal(small.b.weight, net.b.weight[:, [1, 3]])
    assert small.scale.tolist() == [1, 3]
    assert [p.requires_grad for p in small.parameters()] == [True, True, True, False]
    assert small.a.weight.lr_scale == 0.5
    assert small.b.bias.grad is not None, "of what is not sliced too"
    assert small.a.weight.grad.shape == (2, 3)
    theirs = {t.data_ptr() for t in (*net.parameters(), *net.buffers())}
    assert not theirs & {t.data_ptr() for t in (*small.parameters(), *small.buffers())}
    found = record_of(small)
    assert found is not None
    assert found.plan_from(0).tensors == plan.tensors


def test_only_parameters_are_ever_shared_by_a_copy() -> None:
    net = Net()
    for share in (False, True):
        small, twins = sliced_copy(net, PLAN, gates_off, share=share)
        assert (small.b.bias is net.b.bias) is share
        assert small.fixed.data_ptr() != net.fixed.data_ptr()
        assert small.width == 2
        assert set(twins) == {id(raw_tensors(net)[n]) for n in PLAN.tensors}


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_slice_keeps_its_layout(layout: torch.memory_format) -> None:
    t = torch.randn(6, 5, 3, 3).contiguous(memory_format=layout)
    new = slice_tensor(t, [[0, 4], [1, 2, 3], None, None])
    assert torch.equal(new, t[[0, 4]][:, [1, 2, 3]])
    assert new.is_contiguous(memory_format=layout)
    made = new_tensor(nn.Parameter(t, requires_grad=False), [[0, 4], None, None, None])
    assert isinstance(made, nn.Parameter)
    assert not made.requires_grad


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensors": {"a.bias": [[0, 4]]}, "sizes": {}}, "keeps index 4"),
        ({"tensors": {"a.bias": [[0]]}, "sizes": {"a.bias": [5]}}, "the plan was made where"),
        ({"tensors": {"a.bias": [[0]]}, "sizes": {"a.bias": [3]}}, "the plan was made where"),
        ({"tensors": {"c.bias": [[0]]}}, "does not have"),
        ({"tensors": {"a.bias": [[0], None]}}, "cuts 2 dimensions"),
        ({"attributes": [("", "depth", 3)]}, "attribute 'depth'"),
    ],
)
def test_plans_of_other_networks_are_refused(change: dict[str, Any], words: str) -> None:
    net = Net()
    check_plan(net, PLAN, raw_tensors(net))
    with pytest.raises(GraphError, match=words):
        check_plan(net, Plan({}, **change), raw_tensors(net))


def test_an_optimiser_moves_with_its_order_and_its_state() -> None:
    a, b, c = (nn.Parameter(torch.arange(4.0) + i) for i in range(3))
    optimizer = torch.optim.Adam([{"params": [a, b, c], "lr": 0.1}])
    for p in (a, b, c):
        p.grad = torch.arange(4.0)
    optimizer.step()
    moments = optimizer.state[b]["exp_avg"].clone()
    twin = nn.Parameter(b.detach()[[0, 2]])
    commit = plan_optimizer(optimizer, {id(b): [[0, 2]]}, {id(b): twin}, {id(c)})
    assert optimizer.param_groups[0]["params"][1] is b, "nothing before commit"
    commit()
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(a), id(twin)]
    assert set(optimizer.state) == {a, twin}
    assert torch.equal(optimizer.state[twin]["exp_avg"], moments[[0, 2]])
    assert float(optimizer.state[twin]["step"]) == 1
    optimizer.state[twin]["rows"] = [1, 2]
    with pytest.raises(GraphError, match="keeps 'rows' of type list"):
        plan_optimizer(optimizer, {id(twin): [[0]]}, {})


def test_shared_parameters_of_a_copy_stay_shared() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.b.bias = self.a.bias

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.relu(self.a(x)) + torch.relu(self.b(x)))

    torch.manual_seed(0)
    net, average = Tied(), Tied()
    average.load_state_dict(net.state_dict())
    graph = gc.trace(net, torch.randn(2, 4))
    plan = gc.random_plan(graph, keep=0.5, seed=1)
    gc.cut(net, plan, graph=graph, copies=[average])
    assert average.a.bias is average.b.bias
    assert average.a.weight.shape == (2, 4)
    assert average(torch.randn(3, 4)).shape == (3, 2)


def test_records_add_up() -> None:
    net = Net()
    before = raw_tensors(net)
    remember_cut(net, PLAN, before)
    later = Plan({"a": [0]}, {"a.bias": [[0]]})
    remember_cut(net, later, {"a.bias": torch.zeros(2)})
    found = record_of(net)
    assert found is not None
    assert len(found.stages) == 2
    assert found.plan_from(0).tensors["a.bias"] == [[1]]
    assert found.plan_from(1).tensors["a.bias"] == [[0]]
    assert found.shapes_at(0) == {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (2, 4),
                                  "scale": (4,)}  # fmt: skip
    assert found.shapes_at(1) == {"a.bias": (2,)}


def test_what_fails_midway_is_undone_in_networks_and_optimisers() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    held, state = list(optimizer.param_groups[0]["params"]), dict(optimizer.state)
    weight = net.a.weight

    def half() -> None:
        with all_or_nothing([net], [optimizer]):
            net.a.weight = nn.Parameter(torch.zeros(1, 3))
            net.width = 1
            optimizer.param_groups[0].update({"params": [], "lr": 9.0})
            optimizer.state.clear()
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        half()
    assert net.a.weight is weight
    assert net.width == 4
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert all(p is q for p, q in zip(optimizer.param_groups[0]["params"], held, strict=True))
    assert {id(p) for p in optimizer.state} == {id(p) for p in state}


def test_averages_around_a_network_are_found() -> None:
    net = Net()
    average = torch.optim.swa_utils.AveragedModel(net)
    assert average_in(average, net) is average.module
    with pytest.raises(GraphError, match="has not the tensors"):
        average_in(nn.Linear(2, 2), net)


def test_optimisers_in_use_that_were_forgotten_are_said_and_unused_ones_are_not() -> None:
    p = nn.Parameter(torch.ones(2))
    unused = torch.optim.SGD([p], 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_forgotten([p], [])
        p.grad = torch.ones(2)
        warn_of_forgotten([p], [unused])
    with pytest.warns(UserWarning, match="was not given the optimizer"):
        warn_of_forgotten([p], [])


def test_raw_names_and_order_are_the_plain_ones_under_masks() -> None:
    net = Net()
    plain = list(raw_tensors(net))
    masked = gc.wrap(net, torch.randn(2, 3))
    found = raw_tensors(net)
    assert [n.replace(".parametrizations", "").replace(".original", "") for n in found] == plain
    plan = masked.plan()
    assert not any(getattr(m, "is_gancompress_gate", False) for m in gc.cut(net, plan).modules())
    masked.unwrap()


def test_a_live_cut_takes_optimiser_average_record_and_numbers_along() -> None:
    net = Net()
    masked = gc.wrap(net, torch.randn(2, 3))
    average = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    masked.masks["a"].kill(torch.tensor([0, 2]))
    masks = torch.tensor([0.1, 0.2, 0.3, 0.4])
    with torch.no_grad():
        masked.masks["a"].scores.copy_(masks)
    plan = masked.shrink([optimizer], [average])
    assert plan is not None
    assert masked.masks["a"].scores.tolist() == pytest.approx([0.2, 0.4])
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in net.parameters()}
    for module in (net, average):
        assert module.width == 2
        assert module.scale.tolist() == [1, 3]
        found = record_of(module)
        assert found is not None
        assert found.plan_from(0).tensors["scale"] == [[1, 3]]
