"""Landing on the budget: targets are read, checked and met."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import ConfigError, TargetError
from gancompress.graph.groups import ChannelGraph
from gancompress.masks.budget import Budget
from gancompress.masks.carry import decided
from gancompress.masks.mask import ChannelMask
from gancompress.models import BigGANConfig, BigGANGenerator
from gancompress.target import Target
from tests.tiny import Tiny, inputs


@pytest.fixture(scope="module")
def biggan() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    net = BigGANGenerator(BigGANConfig.fashion32()).eval()
    return net, net.sample_inputs(2, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def graph(biggan: tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]) -> ChannelGraph:
    return gc.trace(*biggan)


@pytest.mark.parametrize(
    ("text", "kind", "fraction"),
    [
        ("params=5.2x", "params", 1 / 5.2),
        (" macs = 0.2 ", "macs", 0.2),
        ("params: 4x", "params", 0.25),
        ("macs=1", "macs", 1.0),
        ("params=1e-1", "params", 0.1),
    ],
)
def test_targets_are_read(text: str, kind: str, fraction: float) -> None:
    target = Target.parse(text)
    assert (target.kind, target.fraction) == (kind, pytest.approx(fraction))
    assert Target.parse(target) is target
    assert Target.parse(str(target)).fraction == pytest.approx(fraction, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("small", "write params="),
        ("speed=2x", "is not one of params, macs, latency"),
        ("params=..", "is not a number"),
        ("params=0.5x", "at least 1x"),
        ("params=0", "above 0 and at most 1"),
        ("macs=5.2", "write macs=5.2x"),
        ("params=-2x", "at least 1x"),
    ],
)
def test_wrong_targets_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Target.parse(text)


@pytest.mark.parametrize(
    ("round_to", "min_channels", "size", "floor"),
    [(1, 1, 64, 1), (8, 1, 64, 8), (8, 12, 64, 16), (1, 12, 64, 12), (8, 1, 5, 5), (1, 99, 64, 64)],
)
def test_floor(
    round_to: int, min_channels: int, size: int, floor: int, graph: ChannelGraph
) -> None:
    assert Budget(Target("params", 0.2), graph.cost(), round_to, min_channels).floor(size) == floor


LANDINGS = [
    ("params=5.2x", 1, 1),
    ("macs=0.2", 1, 1),
    ("params=5.2x", 8, 1),
    ("macs=0.3", 8, 8),
    ("params=2x", 4, 10),
    ("params=0.9", 1, 1),
]


@pytest.mark.parametrize(("target", "round_to", "min_channels"), LANDINGS)
@pytest.mark.parametrize("importance", ["scores", "random"])
def test_masks_land_within_two_percent(
    target: str,
    round_to: int,
    min_channels: int,
    importance: str,
    biggan: tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]],
) -> None:
    net, example = biggan
    masked = gc.wrap(
        net, example, target=target, round_to=round_to, min_channels=min_channels,
        importance=importance,
    )  # fmt: skip
    try:
        costs, alive = [masked.cost()], {n: m.alive.clone() for n, m in masked.masks.items()}
        for progress in np.linspace(0.05, 1, 12):
            events = masked.advance(float(progress))
            assert all(
                e.kind == "kill" and e.channels > 0 and e.cost == masked.cost() for e in events
            )
            for name, mask in masked.masks.items():
                assert not (mask.alive & ~alive[name]).any(), "once dead, stays dead"
                alive[name] = mask.alive.clone()
            costs.append(masked.cost())
        kind, goal = Target.parse(target).kind, Target.parse(target).fraction
        numbers = [getattr(c, kind) for c in costs]
        assert numbers == sorted(numbers, reverse=True)
        assert numbers[-1] / numbers[0] == pytest.approx(goal, rel=0.02)
        assert numbers[-1] <= goal * numbers[0]
        for group in masked.graph.groups:
            width = len(masked.plan().keep[group.name])
            assert width >= min(min_channels, group.size)
            assert width % round_to == 0 or width == group.size
    finally:
        masked.unwrap()


def test_coarse_steps_wait_for_the_last_event() -> None:
    """A block of eight that would cross the goal is not taken early."""
    masked = gc.wrap(Tiny(64, 64), inputs("plain"), target="params=2.5x", round_to=8)
    for progress in (0.3, 0.6, 0.9, 1.0):
        masked.advance(progress)
    assert masked.original.params / masked.cost().params == pytest.approx(2.5, rel=0.12)


def test_infeasible_target_says_what_is_reachable_and_what_holds_it() -> None:
    net = Tiny()
    before = [type(m) for m in net.modules()]
    with pytest.raises(TargetError) as caught:
        gc.wrap(net, inputs("plain"), target="params=500x")
    text = str(caught.value)
    smallest = gc.trace(net, inputs("plain")).cost({"linear": 1, "conv2": 1}).params
    assert f"the smallest network has {smallest:,} params" in text
    assert "the target allows 3" in text
    assert "Held up by: " in text
    assert "out.weight" in text or "linear.weight" in text
    assert caught.value.exit_code == 8
    assert [type(m) for m in net.modules()] == before, "nothing was attached"


def test_floors_and_exclusions_count_for_feasibility() -> None:
    gc.wrap(Tiny(), inputs("plain"), target="params=8x").unwrap()
    for options in ({"min_channels": 6}, {"round_to": 8}, {"exclude": ("linear",)}):
        with pytest.raises(TargetError, match="out of reach"):
            gc.wrap(Tiny(), inputs("plain"), target="params=8x", **options)  # type: ignore[arg-type]


def test_plan_with_a_target_of_its_own() -> None:
    net = Tiny(32, 32)
    masked = gc.wrap(net, inputs("plain"))
    assert masked.plan().widths == masked.graph.widths, "no budget: open gates stay"
    with pytest.raises(TargetError):
        masked.plan("params=900x")
    plan = masked.plan("params=3x")
    assert masked.graph.cost(plan.widths).params <= masked.original.params / 3
    assert masked.graph.cost(plan.widths).params >= masked.original.params / 3 * 0.96


def test_kill_takes_the_least_valuable_first(graph: ChannelGraph) -> None:
    budget = Budget(Target("params", 0.8), graph.cost())
    alive = {g.name: np.ones(g.size, bool) for g in graph.groups}
    rng = np.random.default_rng(0)
    value = {g.name: rng.uniform(0.1, 1, g.size) for g in graph.groups}
    killed = budget.kill(graph, alive, value, budget.goal)
    assert killed
    for name, channels in killed.items():
        rest = np.setdiff1d(np.arange(graph[name].size), channels)
        assert value[name][channels].max() < value[name][rest].min()
    only = graph.groups[0].name
    frozen = frozenset(g.name for g in graph.groups[1:])
    assert set(budget.kill(graph, alive, value, graph.cost().params * 0.97, frozen)) == {only}


def test_the_dead_stay_dead_when_a_minimum_is_filled_up() -> None:
    mask = ChannelMask("g", 4)
    with torch.no_grad():
        mask.scores.copy_(torch.tensor([5.0, -1.0, -2.0, 1.0]))
        mask.alive[0] = False
    assert decided(mask, least=1) == [3]
    assert decided(mask, least=3) == [1, 2, 3]
    assert decided(mask, least=4) == [0, 1, 2, 3]
