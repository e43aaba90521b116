"""Plans: what is kept, JSON and back, composition of successive cuts."""

from __future__ import annotations

import json

import pytest
import torch

import gancompress as gc
from gancompress.errors import CheckpointError, GraphError
from gancompress.graph.plan import Plan
from gancompress.surgery.slicing import slice_tensor
from tests.tiny import KINDS, build, inputs


@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip(kind: str) -> None:
    graph = gc.trace(build(kind), inputs(kind))
    plan = gc.random_plan(graph, keep=0.4, seed=2)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert plan.widths == {n: len(k) for n, k in plan.keep.items()}


def test_tuples_and_lists_survive_json() -> None:
    plan = Plan({"a": [0]}, {}, [("m", "shape", (3, 4)), ("m", "sizes", [3, 4]), ("", "ch", 7)])
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("keep", [0.01, 0.5, 1.0])
def test_random_plan_keeps_its_share(keep: float) -> None:
    graph = gc.trace(build("plain"), inputs("plain"))
    plan = gc.random_plan(graph, keep=keep, seed=5)
    for group in graph.groups:
        assert len(plan.keep[group.name]) == max(1, round(keep * group.size))
        assert plan.keep[group.name] == sorted(plan.keep[group.name])
    assert plan == gc.random_plan(graph, keep=keep, seed=5)
    if keep == 0.5:
        assert plan != gc.random_plan(graph, keep=keep, seed=6)
    if keep == 1.0:
        assert not plan.tensors


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, float("nan")])
def test_share_out_of_range(keep: float) -> None:
    with pytest.raises(GraphError, match="keep="):
        gc.random_plan(gc.trace(build("plain"), inputs("plain")), keep=keep)


def test_bad_choices_are_refused() -> None:
    graph = gc.trace(build("plain"), inputs("plain"))
    with pytest.raises(GraphError, match="Did you mean 'linear'"):
        Plan.of(graph, {"liner": [0]})
    with pytest.raises(GraphError, match="keeps no channel of group 'linear'"):
        Plan.of(graph, {"linear": []})
    for wrong in ([8], [-1, 2]):
        with pytest.raises(GraphError, match="which has 8"):
            Plan.of(graph, {"linear": wrong})


@pytest.mark.parametrize("kind", KINDS)
def test_two_cuts_in_a_row_equal_their_composition(kind: str) -> None:
    net, x = build(kind), inputs(kind)
    graph = gc.trace(net, x)
    first = gc.random_plan(graph, keep=0.7, seed=0)
    half = gc.cut(net, first, graph=graph)
    graph2 = gc.trace(half, x)
    second = gc.random_plan(graph2, keep=0.6, seed=1)
    twice = gc.cut(half, second, graph=graph2)
    once = gc.cut(net, first.then(second))
    a, b = twice.state_dict(), once.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    for name, kept in first.then(second).keep.items():
        assert kept == [first.keep[name][i] for i in second.keep[name]]


def test_composition_survives_a_group_of_one() -> None:
    net, x = build("plain"), inputs("plain")
    graph = gc.trace(net, x)
    first = Plan.of(graph, {"conv2": [4]})
    half = gc.cut(net, first)
    graph2 = gc.trace(half, x)
    assert set(graph2.widths) == {"linear"}, "one channel is no choice"
    both = first.then(Plan.of(graph2, {"linear": [1, 2]}))
    assert both.keep == {"linear": [1, 2], "conv2": [4]}
    assert gc.cut(net, both)(x).shape == net(x).shape


GOOD = {"format": 1, "keep": {"a": [0, 2]}, "tensors": {"w": [[0, 2], None]}, "attributes": []}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"keep": [1]},
        {"keep": {"a": []}},
        {"keep": {"a": [1.5]}},
        {"keep": {"a": [True]}},
        {"tensors": {"w": 3}},
        {"tensors": {"w": [[2, 1]]}},
        {"tensors": {"w": [[-1, 1]]}},
        {"tensors": {"w": [[0, 0]]}},
        {"tensors": {"w": ["abc"]}},
        {"attributes": [["m", "a"]]},
        {"attributes": [["m", "a", "rm -rf"]]},
        {"attributes": [["m", "a", {"tuple": [None]}]]},
        {"attributes": 5},
    ],
)
def test_damaged_plans_are_refused(change: dict[str, object]) -> None:
    assert Plan.from_json(json.dumps(GOOD)).keep == {"a": [0, 2]}
    with pytest.raises(CheckpointError):
        Plan.from_json(json.dumps({**GOOD, **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 99}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        Plan.from_json(text)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_slicing_keeps_memory_format_and_dtype(layout: torch.memory_format) -> None:
    t = torch.randn(4, 6, 3, 3, dtype=torch.float16).contiguous(memory_format=layout)
    small = slice_tensor(t, [[0, 2, 3], [1, 5], None, None])
    assert small.is_contiguous(memory_format=layout)
    assert small.dtype == torch.float16
    assert torch.equal(small, t[[0, 2, 3]][:, [1, 5]])


def test_a_number_in_place_of_channels_is_named() -> None:
    graph = gc.trace(build("plain"), inputs("plain"))
    name = next(iter(graph.widths))
    with pytest.raises(GraphError, match=r"is 4: give the channels that stay, such as range\(4\)"):
        Plan.of(graph, {name: 4})  # type: ignore[dict-item]
