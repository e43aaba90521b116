"""Every relaxation, penalty, importance and schedule: range, gradient, and its own formula."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import gancompress as gc
from gancompress.errors import ConfigError
from gancompress.masks import IMPORTANCES, PENALTIES, RELAXATIONS, SCHEDULES, ChannelMask
from gancompress.masks.relax import band
from gancompress.masks.schedule import build_schedule
from tests.tiny import build, inputs

POINTS = (0.0, 0.2, 0.5, 0.8, 1.0)


def gates(name: str, scores: Tensor, progress: float) -> Tensor:
    return RELAXATIONS.get(name)(scores, progress)


@pytest.mark.parametrize("name", RELAXATIONS.names())
@pytest.mark.parametrize("progress", POINTS)
def test_relaxation_stays_in_range_and_orders(name: str, progress: float) -> None:
    scores = torch.linspace(-3, 3, 61)
    with torch.no_grad():
        values = gates(name, scores, progress)
    assert values.isfinite().all()
    assert values.min() >= 0
    assert values.max() <= 1
    assert (values.diff() >= 0).all(), "a higher score never closes a gate"
    if progress == 1.0:
        assert torch.equal(values, (scores > 0).float()), "a step at the end"


@pytest.mark.parametrize("name", RELAXATIONS.names())
@pytest.mark.parametrize("progress", [0.0, 0.3])
def test_relaxation_has_a_finite_gradient(name: str, progress: float) -> None:
    scores = torch.linspace(-0.6, 0.6, 13, requires_grad=True)
    gates(name, scores, progress).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad >= 0).all()
    assert scores.grad[6] > 0, "a score at the threshold can move"


def test_formulas() -> None:
    s = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], requires_grad=True)
    assert gates("ste", s, 0.0).tolist() == [0, 0, 0, 1, 1]
    assert gates("sigmoid", s, 0.0).tolist() == pytest.approx(torch.sigmoid(2 * s).tolist())
    assert gates("scurve", s, 0.0).tolist() == pytest.approx([0, 0.125, 0.5, 0.875, 1])
    (slope,) = torch.autograd.grad(gates("polynomial", s, 0.0).sum(), s)
    assert slope.tolist() == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [band(p) for p in (0.0, 0.75, 1.0)] == pytest.approx([1, 0, 0])
    torch.manual_seed(0)
    noisy = torch.stack([gates("hard_concrete", s, 0.0) for _ in range(400)]).detach()
    assert 0.3 < float(noisy[:, 2].mean()) < 0.7
    assert float(noisy[:, 4].mean()) > float(noisy[:, 0].mean())


def masks_of(relaxation: str = "ste") -> list[ChannelMask]:
    made = [ChannelMask("a", 4, relaxation), ChannelMask("b", 3, relaxation)]
    with torch.no_grad():
        made[0].scores.copy_(torch.tensor([0.4, -0.4, 0.9, 0.1]))
        made[0].alive[2] = False
    return made


ON_GATES = [name for name in PENALTIES.names() if not PENALTIES.fact(name, "weights")]


@pytest.mark.parametrize(
    ("penalty", "relaxation"), list(itertools.product(ON_GATES, RELAXATIONS.names()))
)
def test_penalty_is_finite_and_presses_on_the_living_only(penalty: str, relaxation: str) -> None:
    masks = masks_of(relaxation)
    value = PENALTIES.get(penalty)(masks, [0.1, 0.05])
    assert value.shape == ()
    assert value.isfinite()
    if penalty == "none":
        assert value == 0
        return
    value.backward()
    grad = masks[0].scores.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert grad[2] == 0, "a dead channel feels nothing"
    assert grad[0] > 0 or relaxation == "hard_concrete", "descent lowers an open score"
    assert all(not m.sensitivity.any() and m._gradient is None for m in masks), "no trace in Fisher"


def test_penalty_values() -> None:
    masks = masks_of()
    with torch.no_grad():
        assert float(PENALTIES.get("cost")(masks, [0.1, 0.05])) == pytest.approx(0.2 + 0.15)
        assert float(PENALTIES.get("l1")(masks, [])) == pytest.approx((0.9 + 3) / 6)
        assert float(PENALTIES.get("band")(masks, [])) == pytest.approx(1.4 + 0.6 + 1.1 + 3 * 2)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_schedule_rises_from_start_to_end(name: str) -> None:
    shape = build_schedule(name, 0.2, 0.7)
    values = [shape(t) for t in np.linspace(0, 1, 101)]
    assert all(b >= a for a, b in itertools.pairwise(values))
    assert values[0] == (1 if name == "oneshot" else 0)
    assert values[70:] == pytest.approx([1.0] * 31)
    assert all(0 <= v <= 1 for v in values)


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1), (0.5, 0.5), (0, 1.1), (0.8, 0.2)])
def test_schedule_window_is_checked(start: float, end: float) -> None:
    with pytest.raises(ConfigError, match="0 <= start < end <= 1"):
        build_schedule("cubic", start, end)


@pytest.mark.parametrize("registry", [RELAXATIONS, PENALTIES, IMPORTANCES])
def test_unknown_names_are_refused_with_the_nearest(registry: object) -> None:
    kind, name = registry.kind, registry.names()[0]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=f"no {kind} named .*Did you mean '{name}'"):
        gc.wrap(build("plain"), inputs("plain"), **{kind: name + "x"})
    with pytest.raises(ConfigError, match="no schedule named 'cubik'.*'cubic'"):
        gc.wrap(build("plain"), inputs("plain"), schedule="cubik")


@pytest.mark.parametrize("name", IMPORTANCES.names())
@pytest.mark.parametrize("kind", ["plain", "spectral_new", "weight_old", "raw"])
def test_importance_ranks_every_channel(name: str, kind: str) -> None:
    masked = gc.wrap(build(kind), inputs(kind), importance=name)
    for _ in range(2):  # before and after a gradient was seen
        for group, values in masked.importance().items():
            assert values.shape == (masked.graph[group].size,)
            assert np.isfinite(values).all()
            assert (values > 0).all()
            assert len(np.unique(values)) > 1
        masked.generator.train()
        masked.generator(inputs(kind)).square().mean().backward()
        masked.advance(masked.progress)


def test_importances_see_what_they_say() -> None:
    net, x = build("plain"), inputs("plain")
    with torch.no_grad():
        net.conv2.weight[3] *= 20
        for norm in (net.bn1, net.bn2):
            norm.weight.copy_(torch.linspace(0.1, 2, 8))
    for name in ("magnitude", "norm_scale", "scores", "random"):
        masked = gc.wrap(net, x, importance=name, seed=4)
        if name == "scores":
            with torch.no_grad():
                masked.masks["linear"].scores.copy_(torch.linspace(-1, 1, 8))
        value = masked.importance()
        if name == "magnitude":
            assert value["conv2"].argmax() == 3
        elif name == "random":
            assert (value["linear"] == masked.importance()["linear"]).all()
            masked.unwrap()
            masked = gc.wrap(net, x, importance=name, seed=5)
            assert (value["linear"] != masked.importance()["linear"]).all()
        else:
            assert (np.diff(value["linear"]) > 0).all(), name
        masked.unwrap()


def test_sensitivity_is_the_squared_gradient_by_the_gate() -> None:
    """Summed over all readers of the group, as a share of all gates; no penalty counts."""
    net, x = build("plain").double().train(), inputs("plain").double()
    masked = gc.wrap(net, x, importance="fisher")
    for each in masked.masks.values():
        each.double()
    mask = masked.masks["linear"]
    (net(x).square().mean() + 3 * masked.penalty()).backward()
    assert mask.scores.grad is not None
    with_penalty = mask.scores.grad.clone()
    mask.scores.grad = None
    net(x).square().mean().backward()
    alone = mask.scores.grad.clone()
    assert not torch.equal(alone, with_penalty)
    for other in masked.masks.values():
        other._gradient = None
    net(x).square().mean().backward()
    everywhere = sum(m._gradient.square().sum() for m in masked.masks.values())
    masked.advance(0.0)
    assert torch.allclose(mask.sensitivity, 0.05 * alone**2 / everywhere, rtol=1e-9)
    assert mask._gradient is None
