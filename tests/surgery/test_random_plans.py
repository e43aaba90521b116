"""Random plans on BigGAN are cut exactly, in training state and at every keep ratio."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.graph.groups import ChannelGraph
from gancompress.models import BigGANConfig, BigGANGenerator

Case = tuple[nn.Module, tuple[torch.Tensor, torch.Tensor], ChannelGraph]


def prepared(config: BigGANConfig) -> Case:
    torch.manual_seed(0)
    net = BigGANGenerator(config)
    for name, p in net.named_parameters():
        if "gamma" in name:
            nn.init.constant_(p, 0.7)  # attention starts switched off
    args = net.sample_inputs(2, torch.Generator().manual_seed(0))
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(*args)  # norm statistics and power iterations
    return net.eval(), args, gc.trace(net, args)


@pytest.fixture(scope="module", params=["cifar", "fashion32"])
def case(request: pytest.FixtureRequest) -> Case:
    return prepared(getattr(BigGANConfig, request.param)())


def exact(case: Case, keep: float, seed: int) -> None:
    net, args, graph = case
    plan = gc.random_plan(graph, keep=keep, seed=seed)
    small = gc.cut(net, plan, graph=graph)
    masked = gc.wrap(net, args)
    try:
        masked.apply(plan)
        found = gc.verify(net, small, args, plan=plan)
    finally:
        masked.unwrap()
    assert found.passed, found
    assert found.max_error <= 1e-9
    assert found.sensitivity > 1e-3
    assert sum(p.numel() for p in small.parameters()) == graph.cost(plan.widths).params


@pytest.mark.parametrize(("keep", "seed"), [
    (0.5, 0), (0.1, 3),
    *(pytest.param(*more, marks=pytest.mark.slow) for more in ((0.5, 1), (0.5, 2), (0.9, 4))),
])  # fmt: skip
def test_exact(case: Case, keep: float, seed: int) -> None:
    exact(case, keep, seed)


def test_attention_in_the_middle() -> None:
    config = dataclasses.replace(BigGANConfig.fashion32(), g_attn=(16,))
    made = prepared(config)
    assert {g.size for g in made[2].groups} >= {8, 32}, "queries and keys, values"
    exact(made, 0.5, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_exact_at_full_size(seed: int) -> None:
    exact(prepared(dataclasses.replace(BigGANConfig.imagenet128(), init="N02")), 0.5, seed)
