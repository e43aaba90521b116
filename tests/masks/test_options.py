"""Plug-ins with options, functions of the caller's own, and formulas at hand-picked points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import ConfigError, TargetError
from gancompress.graph.groups import ChannelGraph
from gancompress.masks import IMPORTANCES, RELAXATIONS, ChannelMask
from gancompress.masks.budget import Budget
from gancompress.masks.importance import channel_norm
from gancompress.masks.relax import band
from gancompress.masks.schedule import build_schedule
from gancompress.surgery.raw_tensors import raw_tensors
from gancompress.target import Target
from tests.tiny import build, inputs


def test_wrap_takes_names_with_options_and_functions() -> None:
    net, x = build("plain"), inputs("plain")
    asked: list[float] = []

    def late(u: float) -> float:
        asked.append(u)
        return u**4

    def reversed_order(group: object, mask: ChannelMask, tensors: object, seed: int) -> np.ndarray:
        return np.arange(mask.size, 0, -1.0)

    masked = gc.wrap(
        net, x, target="params=1.5x", importance=reversed_order, schedule=late,
        penalty=lambda masks, price: 5 * masks[0].scores.sum(),
        relaxation={"name": "sigmoid", "start": 1.0, "end": 10.0},
    )  # fmt: skip
    mask = next(iter(masked.masks.values()))
    assert masked.penalty().item() == pytest.approx(5 * mask.scores.sum().item())
    assert torch.allclose(mask.gate(), torch.sigmoid(mask.scores))
    masked.advance(0.5)
    assert asked == [0.5]
    masked.advance(1.0)
    for one in masked.masks.values():
        alive = one.alive.tolist()
        assert alive == sorted(alive, reverse=True), "the last channels of a group go first"
    assert masked.prune() is not None


def test_wrong_options_of_wrap_are_told_before_anything_happens() -> None:
    net, x = build("plain"), inputs("plain")
    before = list(net.state_dict())
    for bad, words in (
        ({"relaxation": {"name": "sigmoid", "start": 0}}, "greater than 0"),
        ({"relaxation": {"name": "sigmoid", "strat": 1}}, "Did you mean 'start'"),
        ({"importance": {"start": 1}}, "needs a 'name'"),
        ({"importance": 3}, "not a plug-in"),
        ({"penalty": {"name": "l1", "slope": 1}}, "no option 'slope'. It has none"),
        ({"importance": {"name": "blend", "parts": []}}, "one importance at least"),
        ({"importance": {"name": "blend", "weights": [1, 2, 3]}}, "2 parts and 3 weights"),
    ):
        with pytest.raises(ConfigError, match=words):
            gc.wrap(net, x, **bad)
    both = {"name": "sigmoid", "start": -1, "end": "much"}
    with pytest.raises(ConfigError, match="'start'.*'end'"):
        gc.wrap(net, x, relaxation=both)
    assert list(net.state_dict()) == before


def test_importances_are_combined_by_their_ranks() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x)
    tensors, (name, mask) = raw_tensors(net), next(iter(masked.masks.items()))
    group = masked.graph[name]

    def up(group: object, mask: ChannelMask, *rest: object) -> np.ndarray:
        return np.arange(1.0, mask.size + 1) ** 3

    def down(group: object, mask: ChannelMask, *rest: object) -> np.ndarray:
        return 100.0 - np.arange(mask.size)

    even = IMPORTANCES.bind({"name": "blend", "parts": [up, down]})(group, mask, tensors, 0)
    assert even == pytest.approx(np.full(mask.size, 1 + 0.5 / mask.size))
    tilted = IMPORTANCES.bind({"name": "blend", "parts": [up, down], "weights": [3, 1]})
    assert (np.diff(tilted(group, mask, tensors, 0)) > 0).all()


def test_magnitude_is_of_parameters_only() -> None:
    net, x = build("spectral_old"), inputs("spectral_old")
    masked = gc.wrap(net, x)
    before = {g.name: channel_norm(g, raw_tensors(net)) for g in masked.graph.groups}
    touched = 0
    for name, t in raw_tensors(net).items():
        if not isinstance(t, nn.Parameter) and t.is_floating_point():
            t.copy_(torch.linspace(1, 9, t.numel()).view(t.shape))
            touched += name.endswith(("_u", "_v"))
    assert touched > 2
    for group in masked.graph.groups:
        assert channel_norm(group, raw_tensors(net)) == pytest.approx(before[group.name])


@pytest.mark.parametrize("name", [n for n in RELAXATIONS.names() if n != "hard_concrete"])
@pytest.mark.parametrize("progress", [0.0, 0.4, 0.9])
def test_under_a_target_no_gate_of_a_living_channel_closes(name: str, progress: float) -> None:
    mask = ChannelMask("g", 4, name, held_open=True)
    mask.set_progress(progress)
    with torch.no_grad():
        mask.scores.copy_(torch.tensor([-9.0, -0.3, 0.0, 2.0]))
    mask.kill(torch.tensor([3]))
    gates = mask.gate()
    assert (gates[:3] > 0.5).all()
    assert gates[3] == 0
    assert mask.hard().tolist() == [1, 1, 1, 0]
    free = ChannelMask("g", 4, name)
    free.set_progress(1.0)
    with torch.no_grad():
        free.scores.copy_(torch.tensor([-9.0, -0.3, 0.1, 2.0]))
    assert free.gate().tolist() == [0, 0, 1, 1], "without one the scores decide"


def test_masks_rest_from_where_their_relaxation_is_hard() -> None:
    for name, start, settled in (("ste", 0.0, True), ("scurve", 0.74, False),
                                 ("scurve", 0.75, True), ("sigmoid", 0.99, False)):  # fmt: skip
        mask = ChannelMask("g", 3, name, held_open=True)
        mask.set_progress(start)
        mask.rest()
        assert bool(mask.settled) is settled, (name, start)


def test_curves_at_points_worked_out_by_hand() -> None:
    cubic = build_schedule("cubic")
    assert [cubic(u) for u in (0.25, 0.5)] == pytest.approx([0.578125, 0.875])
    assert build_schedule({"name": "cubic", "power": 2})(0.5) == pytest.approx(0.75)
    assert [band(p) for p in (0.75 / 8, 0.75 * 0.343)] == pytest.approx([0.5, 0.3])
    cosine = build_schedule("cosine", 0.5, 1.0)
    assert [cosine(u) for u in (0.4, 0.625, 0.75)] == pytest.approx([0, 0.1464466, 0.5])


@pytest.mark.parametrize("options", [{}, {"temperature": 0.3, "stretch": 0.4}])
def test_hard_concrete_against_its_formula(options: dict[str, float]) -> None:
    scores = torch.linspace(-4, 4, 400, dtype=torch.float64)
    torch.manual_seed(5)
    u = torch.rand(400, dtype=torch.float64).numpy()
    torch.manual_seed(5)
    gates = RELAXATIONS.bind({"name": "hard_concrete", **options})(scores, 0.5)
    heat, wide = options.get("temperature", 2 / 3), options.get("stretch", 0.1)
    s = 1 / (1 + np.exp(-(np.log(u) - np.log(1 - u) + scores.numpy()) / heat))
    expected = np.clip(s * (1 + wide + wide) - wide, 0, 1)
    np.testing.assert_allclose(gates.numpy(), expected, atol=1e-4)
    assert 0 < (expected == 0).sum() < 400
    assert 0 < (expected == 1).sum() < 400


@pytest.mark.parametrize("kind", ["params", "macs"])
def test_the_cost_penalty_is_a_share_whatever_the_batch(kind: str) -> None:
    found = []
    for n in (1, 6):
        masked = gc.wrap(build("plain"), inputs("plain", n), target=f"{kind}=2x")
        found.append(masked.penalty().item())
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert 0 < found[0] < 2


def chain(seed: int) -> tuple[ChannelGraph, np.random.Generator]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    a, b, c = (int(w) * 8 for w in rng.integers(2, 7, 3))
    net = nn.Sequential(
        nn.Linear(4, a), nn.ReLU(), nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(),
        nn.Linear(c, 3),
    )  # fmt: skip
    return gc.trace(net, torch.randn(2, 4)), rng


@pytest.mark.parametrize("seed", range(8))
def test_what_an_overshoot_left_room_for_comes_back(seed: int) -> None:
    graph, rng = chain(seed)
    budget = Budget(Target("params", float(rng.uniform(0.2, 0.7))), graph.cost(), 8)
    alive = {g.name: np.ones(g.size, bool) for g in graph.groups}
    value = {g.name: rng.uniform(0.1, 2, g.size) for g in graph.groups}
    for allowed in (budget.allowed(0.3), budget.allowed(0.6), budget.goal):
        killed = budget.kill(graph, alive, value, allowed)
        left = {g.name: g.size - len(killed.get(g.name, ())) for g in graph.groups}
        for name in killed:
            more = graph.cost({**left, name: left[name] + 8}).params
            assert more > allowed, f"a block of {name} could have stayed"


def test_the_schedule_allows_a_straight_share_of_the_way() -> None:
    graph, _ = chain(0)
    budget = Budget(Target("params", 0.4), graph.cost())
    full = graph.cost().params
    shares = (0.0, 0.25, 0.5, 0.99, 1.0)
    expected = [full * (1 - 0.6 * share) for share in shares]
    assert [budget.allowed(share) for share in shares] == pytest.approx(expected)
    assert budget.allowed(1.0) == budget.goal
    masked = gc.wrap(build("plain"), inputs("plain"), target="params=2x", schedule="linear")
    for progress in (0.2, 0.4, 0.6, 0.8):
        masked.advance(progress)
        assert masked.cost().params <= masked.original.params * (1 - 0.5 * progress)


def test_a_target_just_out_of_reach_is_refused() -> None:
    graph, _ = chain(1)
    least = graph.cost({g.name: 1 for g in graph.groups}).params
    full = graph.cost().params
    Budget(Target("params", 1.001 * least / full), graph.cost()).check(graph)
    for off in (0.97, 0.995):
        with pytest.raises(TargetError, match="out of reach"):
            Budget(Target("params", off * least / full), graph.cost()).check(graph)


def test_what_a_function_of_ones_own_returns_is_checked() -> None:
    net, x = build("plain"), inputs("plain")
    for bad, words in (
        (lambda group, mask, tensors, seed: np.ones(group.size + 1), r"gives \(9,\)"),
        (
            lambda group, mask, tensors, seed: np.full(group.size, np.nan),
            "gives numbers .* not finite",
        ),
        (lambda group, mask, tensors, seed: 1.0, r"gives \(\)"),
    ):
        masked = gc.wrap(net, x, target="params=2x", importance=bad)
        with pytest.raises(ConfigError, match=f"importance '<lambda>' {words}.*channels"):
            masked.advance(1.0)
        masked.unwrap()
    for wrong in (1.2, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="a share from 0 to 1"):
            build_schedule(lambda u, wrong=wrong: wrong)(0.5)
    assert build_schedule(lambda u: u * (1 + 1e-9))(1.0) == 1.0


def test_what_is_no_importance_is_told_before_anything_happens() -> None:
    net, x = build("plain"), inputs("plain")
    before = list(net.state_dict())
    with pytest.raises(ConfigError, match=r"cannot be called with \(group, mask, tensors, seed\)"):
        gc.wrap(net, x, target="params=1.5x", importance=lambda group: None)
    assert list(net.state_dict()) == before


def test_include_and_exclude_take_modules() -> None:
    net, x = build("plain"), inputs("plain")
    path, layer = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    by_name = gc.wrap(net, x, exclude=(path,))
    names = set(by_name.masks)
    by_name.unwrap()
    masked = gc.wrap(net, x, exclude=(layer,))
    assert set(masked.masks) == names
    masked.unwrap()
    for bad, words in (
        ((nn.Conv2d(1, 1, 1),), "not part of the generator"),
        ((net,), "the generator itself"),
        ((3,), "holds a int"),
        (layer, "must be a tuple"),
    ):
        with pytest.raises(ConfigError, match=words):
            gc.wrap(net, x, exclude=bad)  # type: ignore[arg-type]
