"""The channel graph of BigGAN in its configurations: groups, cost, speed of nothing but shapes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.groups import ChannelGraph, Cost
from gancompress.models import BigGANConfig, BigGANGenerator

# Weights from a normal distribution: an orthogonal start is slow and changes no shape.
CONFIGS = {
    "imagenet128": dataclasses.replace(BigGANConfig.imagenet128(), init="N02"),
    "cifar": BigGANConfig.cifar(),
    "fashion32": dataclasses.replace(BigGANConfig.fashion32(), init="N02"),
}


def traced(name: str, batch: int = 2) -> tuple[nn.Module, ChannelGraph]:
    """Trace on the meta device: no weight of the large one is ever allocated."""
    config = CONFIGS[name]
    with torch.device("meta"):
        net = BigGANGenerator(config)
        args = torch.empty(batch, config.dim_z), torch.empty(batch, dtype=torch.int64)
    return net, gc.trace(net, args)


@pytest.fixture(scope="module")
def imagenet() -> tuple[nn.Module, ChannelGraph]:
    return traced("imagenet128")


def test_published_macs_and_parameters(imagenet: tuple[nn.Module, ChannelGraph]) -> None:
    net, graph = imagenet
    assert graph.cost() == Cost(70_433_988, 21_121_524_480)
    assert graph.fake, "no operator ran on numbers"
    assert graph.cost().params == sum(p.numel() for p in net.parameters())


def test_groups_of_the_large_one(imagenet: tuple[nn.Module, ChannelGraph]) -> None:
    graph = imagenet[1]
    sizes = sorted(graph.widths.values())
    streams, inner = [1536, 1536, 768, 384, 192, 96], [1536, 768, 384, 192, 96]
    attention, embedding = [24, 96], [128]
    assert sizes == sorted(streams + inner + attention + embedding)
    readers = {g.name: g.readers for g in graph.groups}
    assert all(readers.values()), "every group has a weight to gate"
    first = next(g for g in graph.groups if ("linear.weight", 0) in g.slots)
    assert first.slots[("linear.weight", 0)].shape == (1536, 16), "a channel is a 4 x 4 patch"
    assert ("blocks.0.0.conv1.weight", 1) in first.slots
    assert ("blocks.0.0.bn1.stored_var", 0) in first.slots
    assert ("linear.u0", 1) in first.slots, "power iteration vectors follow"


def test_what_the_large_one_keeps(imagenet: tuple[nn.Module, ChannelGraph]) -> None:
    graph = imagenet[1]
    assert "output" in str(graph.reason(("output_layer.2.weight", 0)))
    assert "entries of an embedding" in str(graph.reason(("shared.weight", 0)))
    assert graph.reason(("blocks.0.0.conv1.weight", 0)) is None


@pytest.mark.parametrize("name", ["cifar", "fashion32"])
def test_cost_counts_parameters(name: str) -> None:
    net, graph = traced(name)
    assert graph.cost().params == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", ["cifar", "fashion32"])
def test_macs_are_per_sample(name: str) -> None:
    assert traced(name, batch=1)[1].cost() == traced(name, batch=5)[1].cost()


@pytest.mark.parametrize("name", ["cifar", "fashion32"])
def test_cost_at_other_widths_is_that_of_the_cut_network(name: str) -> None:
    net = BigGANGenerator(CONFIGS[name])
    args = net.sample_inputs(2, torch.Generator().manual_seed(0))
    graph = gc.trace(net, args)
    plan = gc.random_plan(graph, keep=0.4, seed=3)
    small = gc.cut(net, plan, graph=graph)
    predicted = graph.cost(plan.widths)
    assert predicted == gc.trace(small, args).cost()
    assert predicted.params == sum(p.numel() for p in small.parameters())


def test_marginal_cost_is_the_slope() -> None:
    graph = traced("fashion32")[1]
    for i, group in enumerate(graph.groups):
        for kind, times in (("params", 1), ("macs", graph.batch)):
            fewer = {**graph.widths, group.name: group.size - 1}
            step = getattr(graph.cost(), kind) - getattr(graph.cost(fewer), kind)
            slope = graph.marginal(graph.widths, kind)[i] / times
            # conv2 is square in its own width, so the slope is a little above the step.
            assert step <= slope <= step * (1 + 1.5 / group.size) + 1


def test_bad_names_and_widths_are_refused() -> None:
    graph = traced("fashion32")[1]
    name = graph.groups[0].name
    with pytest.raises(GraphError, match="Did you mean"):
        graph.cost({name + "x": 1})
    for width in (0, graph.groups[0].size + 1):
        with pytest.raises(GraphError, match=f"width {width} of group"):
            graph.cost({name: width})
    with pytest.raises(GraphError, match="no module 'blocks.9'"):
        graph.kept(gc.random_plan(graph), "blocks.9")


def test_surviving_channels_of_a_module() -> None:
    graph = traced("fashion32")[1]
    name = next(g.name for g in graph.groups if ("linear.weight", 0) in g.slots)
    plan = gc.Plan.of(graph, {name: [1, 4]})
    assert graph.kept(plan, "linear").tolist() == [*range(16, 32), *range(64, 80)]
    assert graph.kept(plan, "blocks.0.0.bn1").tolist() == [1, 4]
    assert graph.kept(plan, "output_layer").tolist() == [0]
