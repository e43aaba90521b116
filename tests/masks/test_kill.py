"""Which channels go, worked out on small chains where every choice can be tried."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.graph.groups import ChannelGraph
from gancompress.masks.budget import Budget
from gancompress.masks.landing import find_landing
from gancompress.target import Target


def chain(*widths: int) -> ChannelGraph:
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return gc.trace(nn.Sequential(*layers[:-1]), torch.randn(2, widths[0]))


def killed(
    graph: ChannelGraph,
    budget: Budget,
    value: Mapping[str, np.ndarray],
    allowed: float | None = None,
    frozen: frozenset[str] = frozenset(),
) -> dict[str, list[int]]:
    alive = {g.name: np.ones(g.size, bool) for g in graph.groups}
    goal = budget.goal if allowed is None else allowed
    found = budget.kill(graph, alive, value, goal, frozen)
    return {name: sorted(int(i) for i in channels) for name, channels in found.items()}


def left(graph: ChannelGraph, gone: Mapping[str, list[int]]) -> dict[str, int]:
    return {g.name: g.size - len(gone.get(g.name, [])) for g in graph.groups}


def test_a_goal_is_the_share_that_stays() -> None:
    graph = chain(4, 10, 2)
    assert Budget(Target("params", 0.25), graph.cost()).goal == graph.cost().params / 4


def test_the_least_valuable_go_and_no_more_than_must() -> None:
    graph = chain(4, 20, 2)
    budget = Budget(Target("params", 0.6), graph.cost())
    value = {"0": np.random.default_rng(0).permutation(20) + 1.0}
    gone = killed(graph, budget, value)["0"]
    assert gone == sorted(np.argsort(value["0"])[: len(gone)].tolist())
    now = left(graph, {"0": gone})
    assert graph.cost(now).params <= budget.goal < graph.cost({"0": now["0"] + 1}).params


def test_channels_that_save_more_go_first_where_they_are_worth_the_same() -> None:
    # A channel of the first layer has 40 + 1 + 10 parameters, one of the second 10 + 1 + 2.
    graph = chain(40, 10, 10, 2)
    budget = Budget(Target("params", 0.9), graph.cost())
    gone = killed(graph, budget, {"0": np.ones(10), "2": np.ones(10)}, graph.cost().params - 50)
    assert {n: len(c) for n, c in gone.items()} == {"0": 1}


def test_a_channel_of_a_narrow_group_is_worth_more() -> None:
    # The two cost 10 and 12 parameters a channel: the wide group gives, although it saves less.
    graph = chain(6, 3, 30, 6)
    value = {"0": np.ones(3), "2": np.ones(30)}
    assert graph.marginal(graph.widths, "params")[0] > graph.marginal(graph.widths, "params")[1]
    budget = Budget(Target("params", 0.5), graph.cost())
    gone = killed(graph, budget, value, graph.cost().params * 0.9)
    assert "0" not in gone


def test_the_price_is_that_of_now() -> None:
    # Both prices fall as the other group narrows: greedy by hand must choose alike.
    graph = chain(5, 24, 24, 3)
    rng = np.random.default_rng(3)
    value = {n: rng.uniform(0.5, 1.5, 24) for n in ("0", "2")}
    budget = Budget(Target("params", 0.1), graph.cost())
    allowed = graph.cost().params * 0.35
    widths = graph.widths
    order = {n: np.argsort(v) for n, v in value.items()}
    while graph.cost(widths).params > allowed:
        price = dict(zip(widths, graph.marginal(widths, "params"), strict=True))
        first = {n: order[n][24 - w] for n, w in widths.items()}
        worth = {n: value[n][first[n]] / widths[n] / price[n] for n in widths}
        name = min(worth, key=lambda n: worth[n])
        widths[name] -= 1
    assert left(graph, killed(graph, budget, value, allowed)) == widths


def test_groups_that_are_frozen_keep_all() -> None:
    graph = chain(4, 12, 12, 2)
    budget = Budget(Target("params", 0.7), graph.cost())
    gone = killed(graph, budget, {"0": np.ones(12), "2": np.ones(12)}, frozen=frozenset({"2"}))
    assert list(gone) == ["0"]
    assert graph.cost(left(graph, gone)).params <= budget.goal


@pytest.mark.parametrize("round_to", [4, 8])
def test_widths_become_multiples(round_to: int) -> None:
    graph = chain(4, 21, 13, 2)
    budget = Budget(Target("params", 0.6), graph.cost(), round_to)
    rng = np.random.default_rng(0)
    gone = killed(graph, budget, {"0": rng.uniform(1, 2, 21), "2": rng.uniform(1, 2, 13)})
    for name, width in left(graph, gone).items():
        assert width % round_to == 0 or width == graph[name].size


@pytest.mark.parametrize("seed", range(6))
def test_blocks_land_close_below_the_goal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [int(w) * 4 for w in rng.integers(4, 9, 4)]
    graph = chain(6, *sizes, 3)
    value = {g.name: rng.uniform(0.5, 1.5, g.size) for g in graph.groups}
    budget = Budget(Target("params", float(rng.uniform(0.3, 0.6))), graph.cost(), 4)
    found = graph.cost(left(graph, killed(graph, budget, value))).params
    assert found <= budget.goal
    assert found >= 0.98 * budget.goal, "half of what users are promised, with blocks of four"


def test_what_comes_back_fits_and_is_the_most_valuable() -> None:
    # Two groups alike in size, so alike in what they give back.
    graph = chain(8, 16, 2)
    budget = Budget(Target("params", 0.5), graph.cost(), 4)
    value = {"0": np.arange(1.0, 17.0)}
    gone = killed(graph, budget, value)["0"]
    assert gone == list(range(len(gone)))
    assert graph.cost(left(graph, {"0": gone})).params <= budget.goal


def landing(widths: dict[str, int], prices: dict[str, int], goal: float, **value: float) -> list:
    """Blocks of one channel each, at a price that does not change."""
    return find_landing(
        widths,
        cost=lambda w: sum(prices[n] * k for n, k in w.items()),
        step=lambda name, width: 1 if width > 1 else 0,
        loss=lambda name, high, low: value.get(name, 1.0),
        goal=goal,
    )


def test_a_landing_is_at_the_goal_or_just_below() -> None:
    widths, prices = {"a": 8, "b": 8}, {"a": 70, "b": 30}
    for goal in (700, 699, 650, 640, 610):
        path = landing(widths, prices, goal)
        end = 800 - sum(prices[n] for n in path)
        best = max(e for i in range(8) for j in range(8) if (e := 800 - 70 * i - 30 * j) <= goal)
        assert end <= goal
        assert end == best or end >= 0.99 * goal


def test_of_landings_as_near_the_one_that_loses_least_value() -> None:
    # 100 less: two of `a`, or one of `b`.
    widths, prices = {"a": 5, "b": 5}, {"a": 50, "b": 100}
    assert landing(widths, prices, 650, a=1.0, b=5.0) == ["a", "a"]
    assert landing(widths, prices, 650, a=3.0, b=5.0) == ["b"]


def test_a_far_landing_is_taken_only_when_there_is_no_near_one() -> None:
    # From 1000, one of `a` ends at 940 and is nearly worthless; three of `b` end at the goal.
    assert landing({"a": 10, "b": 40}, {"a": 60, "b": 10}, 970, a=0.01, b=1.0) == ["b"] * 3
    assert landing({"a": 2, "b": 8}, {"a": 60, "b": 60}, 590, a=0.1, b=1.0) == ["a"]
