"""Sensitivity: free of scale, of what is not finite, and the same on all ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, nn

import gancompress as gc
from gancompress.masks.mask import ChannelMask
from gancompress.masks.sensitivity import mean_over_ranks, observe
from tests.tiny import build, inputs


def masks(*gradients: list[float]) -> list[ChannelMask]:
    made = [ChannelMask(str(i), len(g)) for i, g in enumerate(gradients)]
    give(made, *gradients)
    return made


def give(made: list[ChannelMask], *gradients: list[float]) -> None:
    for mask, gradient in zip(made, gradients, strict=True):
        mask._gradient = torch.tensor(gradient)


def test_a_step_counts_as_a_share_of_the_gradient_by_all_gates() -> None:
    found = masks([3.0, 0.0], [-4.0])
    observe(found)
    torch.testing.assert_close(found[0].sensitivity, 0.05 * torch.tensor([9 / 25, 0.0]))
    torch.testing.assert_close(found[1].sensitivity, 0.05 * torch.tensor([16 / 25]))
    give(found, [0.0, 1.0], [0.0])
    observe(found)
    torch.testing.assert_close(found[0].sensitivity, torch.tensor([0.05 * 0.95 * 9 / 25, 0.05]))


@pytest.mark.parametrize("scale", [2.0**-40, 3.0, 2.0**16, 1e25])
def test_the_scale_of_the_loss_is_no_matter(scale: float) -> None:
    plain, scaled = masks([3.0, 0.1], [-4.0]), masks([3.0, 0.1], [-4.0])
    for factor in (1.0, scale):  # and it may change from step to step
        give(plain, [1.0, 2.0], [0.5])
        give(scaled, [factor, 2 * factor], [0.5 * factor])
        observe(plain)
        observe(scaled)
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(a.sensitivity, b.sensitivity)
        assert a.sensitivity.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_is_left_out_everywhere(bad: float) -> None:
    found = masks([1.0, 2.0], [3.0])
    observe(found)
    before = [m.sensitivity.clone() for m in found]
    give(found, [bad, 2.0], [1.0])
    observe(found)
    assert all(torch.equal(m.sensitivity, b) for m, b in zip(found, before, strict=True))
    assert all(m._gradient is None for m in found), "nor is it kept for the next step"
    give(found, [1.0, 0.0], [0.0])
    observe(found)
    assert not torch.equal(found[0].sensitivity, before[0])


def test_a_step_without_gradient_changes_nothing() -> None:
    found = masks([1.0, 2.0], [3.0])
    observe(found)
    before = [m.sensitivity.clone() for m in found]
    give(found, [0.0, 0.0], [0.0])
    observe(found)
    observe(found)
    assert all(torch.equal(m.sensitivity, b) for m, b in zip(found, before, strict=True))


def test_a_bad_step_of_a_wrapped_generator_leaves_importance_finite() -> None:
    net, x = build("plain").train(), inputs("plain")
    masked = gc.wrap(net, x, importance="fisher")
    net(x).square().mean().backward()
    masked.advance(0.1)
    before = masked.importance()
    (net(x) * float("nan")).sum().backward()
    masked.advance(0.2)
    for name, values in masked.importance().items():
        assert np.array_equal(values, before[name])


def test_the_estimate_goes_along_in_a_live_cut() -> None:
    net, x = build("plain").train(), inputs("plain")
    masked = gc.wrap(net, x, target="params=1.5x", importance="fisher")
    net(x).square().mean().backward()
    masked.advance(0.9)
    kept = {n: m.sensitivity[m.alive].clone() for n, m in masked.masks.items()}
    sizes = {n: m.size for n, m in masked.masks.items()}
    assert masked.shrink() is not None
    assert any(m.size < sizes[n] for n, m in masked.masks.items())
    for name, mask in masked.masks.items():
        assert torch.equal(mask.sensitivity, kept[name])
        assert mask.sensitivity.any()


def rank(number: int, folder: str, importance: str) -> None:
    """Train on data of its own; the ranks must choose alike and know the same."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2
    )
    try:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(),
            nn.Linear(12, 2),
        )  # fmt: skip
        masked = gc.wrap(net, torch.randn(2, 6), target="params=2x", importance=importance)
        torch.manual_seed(7 + number)
        with torch.no_grad():
            net[3].weight.add_(torch.randn_like(net[3].weight) * number)
        for step in range(4):
            net(torch.randn(5, 6) * (1 + number)).square().mean().backward()
            masked.advance((step + 1) / 4)
        state = {n: m.alive.tolist() for n, m in masked.masks.items()}
        felt = {n: m.sensitivity.tolist() for n, m in masked.masks.items()}
        both: list[object] = [None, None]
        distributed.all_gather_object(both, (state, felt))
        assert both[0] == both[1], both
        assert not all(all(alive) for alive in state.values())
        values = {"a": np.full(2, float(number)), "b": np.full(1, 4.0)}
        mean = mean_over_ranks(values, torch.zeros(()))
        assert mean["a"].tolist() == [0.5, 0.5]
        assert mean["b"].tolist() == [4.0]
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize(
    "importance", ["fisher", pytest.param("magnitude", marks=pytest.mark.slow)]
)
def test_ranks_choose_alike_from_what_all_of_them_saw(importance: str, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank, (str(tmp_path), importance), nprocs=2)


def test_alone_nothing_is_averaged() -> None:
    values = {"a": np.arange(3.0)}
    assert mean_over_ranks(values, torch.zeros(()))["a"] is values["a"]
