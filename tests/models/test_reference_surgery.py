"""The reference generators are cut exactly; only what the caller sees keeps its channels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gancompress as gc
from tests.models.reference import GENERATORS, rng


def prepared(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A small generator in float64 whose statistics have moved, and its inputs."""
    torch.manual_seed(0)
    net = GENERATORS[name]().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        inputs = net.sample_inputs(2, rng())
        net.train()
        for _ in range(3):
            net(*inputs)
    return net.eval(), inputs


def folded() -> nn.Module:
    net = GENERATORS["hifigan"]()
    net.remove_weight_norm()
    return net


QUICK = [
    "resnet-instance",
    "resnet-batch-dropout",
    "unet-batch",
    "unet-instance",
    "rrdb-x4",
    "rrdb-x2",
    "srvgg",
    "hifigan",
    "hifigan-2",
    "spade-vae",
]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in GENERATORS if name not in QUICK]


# Everything inside can go: what stays are pictures, maps and sound that come in and go out.
STAYS = {
    "resnet-instance": "model.19",
    "unet-batch": "model.model.3",
    "rrdb-x4": "conv_last",
    "srvgg": "body.8",
    "hifigan": "conv_post",
    "spade-vae": "conv_img",
}
CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d


def kept_whole(net: nn.Module, small: nn.Module) -> set[str]:
    """Paths of the convolutions that still write all their channels."""
    whole = set()
    for (path, before), after in zip(net.named_modules(), small.modules(), strict=True):
        if isinstance(before, CONVOLUTIONS):
            written = 1 if "Transpose" in type(before).__name__ else 0
            if before.weight.shape[written] == after.weight.shape[written]:
                whole.add(path)
    return whole


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_random_plans_are_cut_exactly(name: str) -> None:
    net, inputs = prepared(name)
    masked = gc.wrap(net, inputs)
    for keep, seed in ((0.5, 0), (0.75, 1)):
        plan = gc.random_plan(masked.graph, keep=keep, seed=seed)
        masked.apply(plan)
        small = masked.prune(plan)
        found = masked.verification
        assert found is not None
        assert found.passed, found
        assert found.max_error <= 1e-9
        assert found.sensitivity > 1e-3
        count = sum(p.numel() for p in small.parameters())
        assert count == masked.graph.cost(plan.widths).params
    if name in STAYS:
        assert kept_whole(masked.unwrap(), small) == {STAYS[name]}


@pytest.mark.parametrize("name", ["resnet-instance", "unet-batch", "srvgg", "hifigan"])
def test_masks_trained_to_a_target_cut_exactly(name: str) -> None:
    net, inputs = prepared(name)
    masked = gc.wrap(net, inputs, target="params=3x")
    optimizer = torch.optim.Adam([*net.parameters()], lr=1e-3)
    net.train()
    for step in range(4):
        optimizer.zero_grad()
        (net(*inputs).square().mean() + 0.01 * masked.penalty()).backward()
        optimizer.step()
        masked.advance((step + 1) / 4)
    net.eval()
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.passed
    assert masked.verification.max_error <= 1e-9
    count = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in masked.parameters())
    assert sum(p.numel() for p in small.parameters()) <= count / 3 * 1.001


def test_a_live_cut_of_a_normed_vocoder_goes_on_learning() -> None:
    net, inputs = prepared("hifigan")
    masked = gc.wrap(net, inputs, target="params=2x")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net.train()
    for progress in (0.5, 1.0):
        optimizer.zero_grad()
        (net(*inputs).square().mean() + 0.01 * masked.penalty()).backward()
        optimizer.step()
        masked.advance(progress)
        masked.shrink([optimizer])
    assert net(*inputs).isfinite().all()
    assert net.conv_pre.weight_g.shape[0] == net.conv_pre.weight_v.shape[0]


def test_a_folded_vocoder_is_cut_exactly() -> None:
    net = folded().double().eval()
    inputs = net.sample_inputs(2, rng())
    graph = gc.trace(net, inputs)
    plan = gc.random_plan(graph, keep=0.5, seed=0)
    masked = gc.wrap(net, inputs)
    masked.apply(plan)
    found = gc.verify(net, gc.cut(net, plan, graph=graph), inputs, plan=plan)
    masked.unwrap()
    assert found.passed, found
