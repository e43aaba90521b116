"""Search by a score of one's own: it spares what the score needs, and lands on the target."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import ConfigError, TargetError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
        nn.Linear(16, 3),
    )  # fmt: skip


def test_a_group_that_the_score_needs_is_spared() -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    model = net()
    masked = gc.wrap(model, x)
    wanted = model(x).detach()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    spared = list(masked.masks)[1]

    def score(generator: nn.Module) -> float:
        with torch.no_grad():
            # Whatever it does to the output, closing the second group is a disaster.
            closed = float((1 - masked.masks[spared].gate(watched=False)).sum())
            return -float((generator(x) - wanted).square().mean()) - 100 * closed

    found = gc.search(masked, score, "params=1.8x", levels=4)
    assert found.plan.widths[spared] == 16
    assert sum(w for n, w in found.plan.widths.items() if n != spared) < 32
    assert found.calls == 1 + 3 * 4
    assert found.score == pytest.approx(0, abs=1e-9)
    for curve in found.curves.values():
        assert [w for w, _ in curve] == [16, 12, 8, 4, 1]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    masked.prune(found.plan)
    assert masked.verification is not None
    assert masked.verification.passed
    share = masked.graph.cost(found.plan.widths).params / masked.original.params
    assert 0.9 / 1.8 <= share <= 1 / 1.8


def test_a_score_that_is_indifferent_leaves_it_to_importance_and_cost() -> None:
    masked = gc.wrap(net(), torch.randn(4, 6))
    values = masked.importance()
    found = gc.search(masked, lambda _: 1.0, "params=1.5x", levels=3)
    for name, kept in found.plan.keep.items():
        gone = [i for i in range(16) if i not in kept]
        if gone:
            assert values[name][gone].max() <= values[name][kept].min()


def test_a_budget_bounds_the_search_and_is_spent_at_the_target() -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    model = net()
    masked = gc.wrap(model, x, target="params=1.8x")
    wanted, asked = model(x).detach(), list[float]()

    def score(generator: nn.Module) -> float:
        with torch.no_grad():
            asked.append(-float((generator(x) - wanted).square().mean()))
        return asked[-1]

    known: dict[str, float] = {}
    found = gc.search(masked, score, levels=9, budget=20, seed=3, known=known)
    assert len(asked) == len(known) == found.calls <= 20
    assert found.plan_score is not None
    assert found.first_score is not None
    assert found.plan_score >= found.first_score
    assert max(len(c) for c in found.curves.values()) == 1 + 18 // 3, "the budget shortens them"
    assert masked.graph.cost(found.plan.widths).params <= masked.original.params / 1.8
    before = len(asked)
    again = gc.search(
        masked, score, levels=9, budget=20, seed=3, known=dict(list(known.items())[:9])
    )
    assert again.plan == found.plan
    assert len(asked) == before + len(known) - 9
    with pytest.raises(ConfigError, match="budget=4 does not suffice: 3 groups need 5"):
        gc.search(masked, score, budget=4)
    with pytest.raises(ConfigError, match="needs a target"):
        gc.search(gc.wrap(net(), x), score)


def test_an_order_from_outside_meets_several_targets_in_steps_of_their_own() -> None:
    masked = gc.wrap(
        net(), torch.randn(4, 6), target=["params=1.3x", "macs=1.6x"], allocation="uniform",
        round_to=4,
    )  # fmt: skip
    masked.advance(1.0)
    cost = masked.cost()
    assert cost.params <= masked.original.params / 1.3
    assert cost.macs <= masked.original.macs / 1.6
    assert all(w % 4 == 0 for w in masked.widths().values())


def test_what_cannot_be_searched_is_refused() -> None:
    masked = gc.wrap(net(), torch.randn(4, 6))
    with pytest.raises(ConfigError, match=r"uncut\) is nan"):
        gc.search(masked, lambda _: float("nan"), "params=1.5x")
    with pytest.raises(ConfigError, match="levels=0"):
        gc.search(masked, lambda _: 1.0, "params=1.5x", levels=0)
    with pytest.raises(TargetError, match="out of reach"):
        gc.search(masked, lambda _: 1.0, "params=1000x")
    asked = iter([1.0, float("inf")])
    with pytest.raises(ConfigError, match="at 8 channels"):
        gc.search(masked, lambda _: next(asked), "params=1.5x", levels=2)
    assert all(not m.whole and bool(m.alive.all()) for m in masked.masks.values())
