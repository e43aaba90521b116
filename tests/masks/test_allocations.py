"""Allocations, importances that compare across groups, and penalties on weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import ConfigError, GraphError
from gancompress.masks import ALLOCATIONS, IMPORTANCES
from gancompress.masks.allocations.isomorphic import structure
from gancompress.target import Target
from gancompress.wrapping import Masked
from tests.tiny import build, inputs

SPECS = [
    "uniform", "global", "isomorphic", {"name": "ratios", "of": {"conv1": 0.2}},
    {"name": "counts", "of": {"conv1": 4}},
]  # fmt: skip
RAW = {"name": "magnitude", "ranks": False}


def wrapped(kind: str = "plain", **options: object) -> Masked:
    return gc.wrap(build(kind), inputs(kind), **options)  # type: ignore[arg-type]


def test_every_allocation_is_tried_here() -> None:
    named = {spec if isinstance(spec, str) else spec["name"] for spec in SPECS}
    assert named == set(ALLOCATIONS.names())


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("target", ["params=2x", "macs=0.4"])
def test_it_lands_on_the_budget_and_the_cut_is_exact(spec: object, target: str) -> None:
    masked = wrapped(target=target, allocation=spec, importance=RAW)
    goal = Target.parse(target)
    masked.advance(1.0)
    share = goal.of(masked.cost()) / goal.of(masked.original)
    # Blocks of a network of a few hundred weights are coarse.
    assert 0.85 * goal.fraction <= share <= goal.fraction
    masked.prune()
    assert masked.verification is not None
    assert masked.verification.passed


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_widths_keep_to_the_rules_and_the_least_important_go(spec: object) -> None:
    masked = wrapped(
        target="params=2x", allocation=spec, importance=RAW, round_to=2, min_channels=2
    )
    before = {n: v.copy() for n, v in masked.importance().items()}
    masked.advance(1.0)
    for name, mask in masked.masks.items():
        alive = mask.alive.numpy()
        assert alive.sum() % 2 == 0
        assert alive.sum() >= 2
        if 0 < alive.sum() < mask.size:
            assert before[name][~alive].max() <= before[name][alive].min()


def test_uniform_takes_the_same_share_of_every_group() -> None:
    masked = wrapped(target="params=2x", allocation="uniform")
    masked.advance(1.0)
    kept = [int(m.alive.sum()) / m.size for m in masked.masks.values()]
    coarse = max(1 / m.size for m in masked.masks.values())
    assert max(kept) - min(kept) <= coarse + 1e-9


def test_global_takes_what_is_smallest_anywhere() -> None:
    masked = wrapped(target="params=1.5x", allocation="global", importance="lamp")
    values = masked.importance()
    masked.advance(1.0)
    gone = [values[n][~m.alive.numpy()] for n, m in masked.masks.items()]
    kept = [values[n][m.alive.numpy()] for n, m in masked.masks.items()]
    taken = np.concatenate(gone)
    # One threshold, apart from the last block that was chosen to land.
    assert (np.concatenate(kept) < np.sort(taken)[-2]).sum() <= 1
    bound = {"name": "global", "most": 0.5}
    masked = wrapped(target="params=1.5x", allocation=bound, importance="lamp")
    masked.advance(1.0)
    assert all(int(m.alive.sum()) >= m.size // 2 for m in masked.masks.values())


def test_ratios_spare_a_layer_of_ratio_nought() -> None:
    names = list(wrapped().masks)
    spare = {"name": "ratios", "of": {names[0]: 0.0}}
    masked = wrapped(target="params=1.5x", allocation=spare)
    masked.advance(1.0)
    assert bool(masked.masks[names[0]].alive.all())
    assert not bool(masked.masks[names[1]].alive.all())
    wrong = {"name": "ratios", "of": {"nowhere": 0.5}}
    with pytest.raises(ConfigError, match="nowhere"):
        wrapped(target="params=1.5x", allocation=wrong).advance(1.0)
    with pytest.raises(ConfigError, match="no allocation named 'unifrom'.*'uniform'"):
        wrapped(target="params=1.5x", allocation="unifrom")


def test_groups_are_of_one_kind_whatever_their_width() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 9, 3), nn.ReLU(), nn.Conv2d(9, 5, 3),
        nn.ReLU(), nn.Conv2d(5, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1),
    )  # fmt: skip
    graph = gc.wrap(net, torch.randn(2, 1, 12, 12)).graph
    kinds = {name: structure(graph, graph[name]) for name in graph.widths}
    assert kinds["0"] == kinds["2"] != kinds["6"]
    assert kinds["4"] != kinds["0"], "its reader has another kernel"


# -- importances -----------------------------------------------------------------------------------
def test_taylor_and_obd_are_what_the_gradient_says() -> None:
    net, x = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)), None
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    for name, worth in (("taylor", torch.abs), ("obd", lambda p: p.square() / 2)):
        masked = gc.wrap(net, x, importance=name)
        net.zero_grad()
        net(x).square().mean().backward()
        raw = {
            n.replace("parametrizations.", "").replace(".original", ""): p
            for n, p in net.named_parameters() if "0.owned" not in n
        }  # fmt: skip
        first, second = raw["0.weight"], raw["1.weight"]
        wanted = worth(first * first.grad).sum(1) + worth(second * second.grad).sum(0)
        (values,) = masked.importance().values()
        np.testing.assert_allclose(values, wanted.detach().numpy(), rtol=1e-4)
        first.grad[0, 0] = float("nan")  # of a step that went wrong
        (values,) = masked.importance().values()
        assert np.isfinite(values).all()
        masked.unwrap()


def test_lamp_of_equal_channels_and_of_one_large_one() -> None:
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
    masked = gc.wrap(net, torch.randn(4, 3), importance="lamp")
    (values,) = masked.importance().values()
    assert sorted(values) == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])
    assert "lamp" in IMPORTANCES


# -- penalties on weights --------------------------------------------------------------------------
@pytest.mark.parametrize("penalty", ["group_lasso", "gain"])
def test_a_penalty_on_weights_presses_on_living_weights_and_keeps_nothing(penalty: str) -> None:
    masked = wrapped(target="params=2x", penalty=penalty)
    mask = next(iter(masked.masks.values()))
    mask.kill(torch.tensor([1]))
    value = masked.penalty()
    assert float(value.detach()) > 0
    value.backward()
    assert mask.scores.grad is None or not mask.scores.grad.any()
    assert all(m.lent == () for m in masked.masks.values())
    touched = [p for p in masked.generator.parameters() if p.grad is not None and p.grad.any()]
    assert touched
    norm = next(m for m in masked.generator.modules() if isinstance(m, nn.BatchNorm2d))
    if penalty == "gain":
        assert norm.weight.grad is not None
        assert int((norm.weight.grad == 0).sum()) == 1, "the dead channel feels nothing"


# -- ratios without a target, groups and costs of layers -------------------------------------------
def test_a_plan_by_ratios() -> None:
    masked = wrapped()
    plan = gc.ratio_plan(masked, 0.5)
    assert plan.widths == {n: m.size - m.size // 2 for n, m in masked.masks.items()}
    first = next(iter(masked.masks))
    plan = gc.ratio_plan(masked, {first: 0.25}, round_to=2)
    assert plan.widths[first] == 6
    assert all(w == masked.masks[n].size for n, w in plan.widths.items() if n != first)
    masked.prune(plan)
    assert masked.verification is not None
    assert masked.verification.passed
    for bad, words in ((1.0, "below 1"), (-0.1, "at least 0"), ({"nowhere": 0.5}, "nowhere")):
        with pytest.raises(ConfigError, match=words):
            gc.ratio_plan(wrapped(), bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="round_to=0"):
        gc.ratio_plan(wrapped(), 0.5, round_to=0)


class Heads(nn.Module):
    """Tokens (n, s, 6) to (n, s, 3) by attention of 4 heads of 4 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 16)
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, s, _ = x.shape
        h = self.stem(x)
        q, k, v = (f(h).view(n, s, -1, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(a.transpose(1, 2).reshape(n, s, -1))


def test_heads_are_pruned_by_count() -> None:
    torch.manual_seed(0)
    net = Heads()
    with torch.no_grad():
        net.v.weight[4:8] *= 5  # the second head is the largest
    masked = gc.wrap(net, torch.randn(2, 5, 6), importance="magnitude")
    assert masked.graph.group_of("q") is masked.graph.group_of("v")
    assert masked.graph.group_of("q").size == 4
    plan = gc.ratio_plan(masked, 0, counts={"q": 2})
    name = masked.graph.group_of("q").name
    assert len(plan.keep[name]) == 2
    assert 1 in plan.keep[name]
    small = masked.prune(plan)
    assert masked.verification is not None
    assert masked.verification.passed
    for layer in (small.q, small.k, small.v):
        assert layer.out_features == 8
    assert small.stem.out_features == 16
    for count, words in ((0, "cannot keep 0 of 4"), (5, "cannot keep 5 of 4")):
        with pytest.raises(ConfigError, match=words):
            gc.ratio_plan(gc.wrap(Heads(), torch.randn(2, 5, 6)), 0, counts={"q": count})
    with pytest.raises(ConfigError, match="nowhere"):
        gc.ratio_plan(gc.wrap(Heads(), torch.randn(2, 5, 6)), 0, counts={"nowhere": 1})


def test_counts_go_first_and_never_below() -> None:
    masked = gc.wrap(
        Heads(), torch.randn(2, 5, 6), target="params=2.5x",
        allocation={"name": "counts", "of": {"q": 3}},
    )  # fmt: skip
    name = masked.graph.group_of("q").name
    masked.advance(1.0)
    assert masked.widths()[name] == 3
    assert masked.cost().params <= masked.original.params / 2.5
    with pytest.raises(ConfigError, match="cannot keep 9 of 4"):
        gc.wrap(
            Heads(), torch.randn(2, 5, 6), target="params=2x",
            allocation={"name": "counts", "of": {"q": 9}},
        ).advance(1.0)  # fmt: skip


def test_the_cost_of_a_layer_is_in_the_inspection() -> None:
    found = gc.inspect(build("plain"), inputs("plain"))
    assert sum(row.params for row in found.rows) == found.cost.params
    assert sum(row.macs for row in found.rows) == pytest.approx(found.cost.macs, abs=9)


@pytest.mark.parametrize("kind", ["plain", "spectral_new", "weight_old", "raw"])
def test_costs_of_layers_add_up(kind: str) -> None:
    graph = wrapped(kind).graph
    for widths in (None, dict.fromkeys(graph.widths, 3)):
        layers, whole = graph.layer_costs(widths), graph.cost(widths)
        assert sum(c.params for c in layers.values()) == whole.params
        assert sum(c.macs for c in layers.values()) == pytest.approx(whole.macs, abs=len(layers))
    assert all("parametrizations" not in name for name in layers)


def test_the_group_of_a_layer() -> None:
    graph = wrapped().graph
    assert graph.group_of("conv1") is graph.group_of("bn1")
    with pytest.raises(GraphError, match="no channel group or layer 'conv11'.*conv1"):
        graph.group_of("conv11")
