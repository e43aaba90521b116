from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import DataError, GraphError
from gancompress.graph.groups import ChannelGraph
from gancompress.surgery.reconstruction import choose
from gancompress.surgery.reconstruction.choose import channel_losses
from gancompress.surgery.reconstruction.options import Options
from gancompress.surgery.reconstruction.reconstruct import Report, reconstruct
from tests.surgery import reconstruction_nets as nets
from tests.surgery.reconstruction_nets import EXACT, C, Grouped, Noisy, Normed, Shared, depend_

Build = Callable[[], tuple[nn.Module, Tensor]]
EXACTLY = Options(ridge=0.0)


def made(build: Build) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    net, x = build()
    return net.double().eval(), x.double()


def solved(
    net: nn.Module, x: Tensor, keep: dict[str, list[int]], options: Options | None = None
) -> tuple[nn.Module, nn.Module, Report]:
    graph = gc.trace(net, x[:2])
    plan = gc.Plan.of(graph, keep)
    small = gc.cut(net, plan, graph=graph)
    calls = [((part,), {}) for part in x.chunk(2)]
    new, report = reconstruct(net, small, plan, graph=graph, inputs=calls, options=options)
    return small, new, report


def off(a: Tensor, b: Tensor) -> float:
    return float(((a - b).square().mean().sqrt() / b.std()).detach())


@pytest.mark.parametrize("build", EXACT, ids=lambda b: b.__name__)
def test_channels_that_others_can_make_up_for_are_made_up_for(build: Build) -> None:
    net, x = made(build)
    depend_(net.writer)
    small, new, report = solved(net, x, {"writer": list(range(C // 2))}, EXACTLY)
    assert off(small(x), net(x)) > 1e-2
    assert off(new(x), net(x)) < 1e-8
    assert not report.left
    assert [layer.path for layer in report.layers][0].startswith("reader")
    assert report.layers[0].after < 1e-12 < report.layers[0].before
    assert new.state_dict().keys() == small.state_dict().keys()


@pytest.mark.parametrize("build", EXACT, ids=lambda b: b.__name__)
def test_it_holds_on_other_inputs_too(build: Build) -> None:
    net, x = made(build)
    depend_(net.writer)
    _, new, _ = solved(net, x, {"writer": list(range(C // 2))}, EXACTLY)
    fresh = torch.randn(x.shape, dtype=x.dtype) * 3
    assert off(new(fresh), net(fresh)) < 1e-7


@pytest.mark.parametrize("build", EXACT, ids=lambda b: b.__name__)
@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_with_no_channel_gone_nothing_changes(build: Build, ridge: float) -> None:
    net, x = made(build)
    _, new, report = solved(net, x, {}, Options(ridge=ridge))
    assert not report.layers
    for name, t in new.state_dict().items():
        assert torch.equal(t, net.state_dict()[name]), name


def test_a_grouped_and_a_depthwise_reader() -> None:
    torch.manual_seed(1)
    net = Grouped().double().eval()
    x = torch.randn(12, 2, 9, 9).double()
    graph = gc.trace(net, x[:2])
    name = next(g.name for g in graph.groups if ("grouped.weight", 1) in g.slots)
    # Channels 2 and 3 of either group become combinations of its channels 0 and 1.
    with torch.no_grad():
        for start in (0, 4):
            rows = net.writer.weight[start : start + 4]
            rows[2], rows[3] = rows[0] + rows[1], rows[0] - 2 * rows[1]
            bias = net.writer.bias[start : start + 4]
            bias[2], bias[3] = bias[0] + bias[1], bias[0] - 2 * bias[1]
    small, new, report = solved(net, x, {name: [0, 1]}, EXACTLY)
    assert off(small(x), net(x)) > 1e-2
    assert off(new(x), net(x)) < 1e-8
    assert [layer.path for layer in report.layers if layer.before > 1e-12] == ["grouped"]


def test_each_layer_gets_better_or_stays() -> None:
    torch.manual_seed(0)
    net = Normed().double()
    x = torch.randn(40, 2, 8, 8).double()
    net(x)
    net.eval()
    graph = gc.trace(net, x[:2])
    keep = {g.name: list(range(g.size // 2)) for g in graph.groups}
    small, new, report = solved(net, x, keep)
    assert {layer.path for layer in report.layers} >= {"one", "two", "skip", "last"}
    assert all(layer.after <= layer.before for layer in report.layers)
    assert report.norms == ["norm1", "norm2"]
    assert off(new(x), net(x)) < 0.7 * off(small(x), net(x))
    assert report.samples == 40


@pytest.mark.parametrize("sums", [True, False])
def test_a_branch_makes_good_what_the_other_lacks(sums: bool) -> None:
    """`two` loses what it reads; `skip` reads all, and can give it only where sums are seen."""
    torch.manual_seed(0)

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.skip = nn.Linear(4, 12), nn.Linear(4, 5)
            self.two, self.last = nn.Linear(12, 5), nn.Linear(5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.two(self.wide(x)) + self.skip(x))

    net = Sum().double().eval()
    x = torch.randn(200, 4).double()
    _, new, _ = solved(net, x, {"wide": [0, 1]}, Options(ridge=0.0, sums=sums))
    skip_same = torch.equal(new.skip.weight, net.skip.weight)
    assert skip_same is not sums
    assert off(new(x), net(x)) < 1e-8


def test_nothing_that_was_given_changes() -> None:
    net, x = made(nets.conv2d)
    net.train()
    graph = gc.trace(net, x[:2])
    plan = gc.Plan.of(graph, {"writer": [0, 1]})
    small = gc.cut(net, plan, graph=graph)
    before = [{n: t.clone() for n, t in m.state_dict().items()} for m in (net, small)]
    new, _ = reconstruct(net, small, plan, graph=graph, inputs=[((x,), {})])
    for module, state in zip((net, small), before, strict=True):
        assert all(torch.equal(t, state[n]) for n, t in module.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert new.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in new.modules())
    assert all(p.requires_grad for p in new.parameters())
    new(x).sum().backward()


def test_a_layer_that_is_used_twice_is_named_and_left() -> None:
    torch.manual_seed(0)
    net = Shared().eval()
    x = torch.randn(50, 3)
    graph = gc.trace(net, x[:2])
    keep = {g.name: list(range(g.size // 2)) for g in graph.groups}
    small, new, report = solved(net, x, keep)
    assert [layer.path for layer in report.left] == ["same", "same"]
    assert "several" in report.left[0].left
    assert torch.equal(new.same.weight, small.same.weight)


def test_a_layer_too_wide_is_named_and_left() -> None:
    net, x = made(nets.conv2d)
    _, _, report = solved(net, x, {"writer": [0, 1]}, Options(features=5))
    assert "6 numbers, more than 5" in report.left[0].left


def test_both_networks_draw_the_same_noise() -> None:
    torch.manual_seed(0)
    net = Noisy().double().eval()
    depend_(net.first)
    # What noise adds to a combination is not what the combination of noises would be.
    x = torch.randn(12, 2, 10, 10).double()
    state = torch.random.get_rng_state()
    _, _, report = solved(net, x, {"first": [0, 1, 2, 3]}, EXACTLY)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert report.layers[0].after < 0.5 * report.layers[0].before


def test_inputs_are_needed() -> None:
    net, x = made(nets.linear)
    graph = gc.trace(net, x[:2])
    plan = gc.Plan.of(graph, {"writer": [0]})
    small = gc.cut(net, plan, graph=graph)
    with pytest.raises(DataError, match="gave none"):
        reconstruct(net, small, plan, graph=graph, inputs=[])
    with pytest.raises(DataError, match="gave none"):
        channel_losses(net, graph, [])


def test_networks_that_do_not_belong_together_are_refused() -> None:
    net, x = made(nets.linear)
    graph = gc.trace(net, x[:2])
    plan = gc.Plan.of(graph, {"writer": [0]})
    with pytest.raises(GraphError, match="cut from this teacher"):
        reconstruct(net, nn.Linear(5, 2).double(), plan, graph=graph, inputs=[((x,), {})])


def test_an_error_of_the_forward_is_handed_on_and_leaves_no_hooks() -> None:
    net, x = made(nets.linear)
    graph = gc.trace(net, x[:2])
    plan = gc.Plan.of(graph, {"writer": [0]})
    small = gc.cut(net, plan, graph=graph)
    with pytest.raises(RuntimeError, match="shapes"):
        reconstruct(net, small, plan, graph=graph, inputs=[((x[:, :2],), {})])
    assert not any(m._forward_hooks for m in net.modules())


def worth(net: nn.Module, x: Tensor) -> tuple[dict[str, np.ndarray], ChannelGraph]:
    graph = gc.trace(net, x[:2])
    return channel_losses(net, graph, [((x,), {})], Options(ridge=1e-9)), graph


@pytest.mark.parametrize("build", [nets.conv2d, nets.linear, nets.transposed, nets.spectral])
def test_channels_that_others_can_make_up_for_are_worth_nothing(build: Build) -> None:
    net, x = made(build)
    depend_(net.writer)
    found, graph = worth(net, x)
    order = np.argsort(found["writer"])
    assert found["writer"].shape == (graph["writer"].size,)
    assert found["writer"][order[: C // 2]].max() < 1e-6
    assert found["writer"][order[C // 2]] > 1e-4


def test_a_channels_worth_is_the_error_of_its_going(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to go: compared with a least-squares fit of the layer without it."""
    monkeypatch.setattr(choose, "sensitivities", lambda *args, **kwargs: dict.fromkeys(range(3), 1))
    torch.manual_seed(0)
    net = nets.TwoLayers(nn.Linear(9, 5), nn.Linear(5, 4), nn.Linear(4, 1)).double().eval()
    x = torch.randn(400, 9).double()
    found, _ = worth(net, x)
    hidden, out = net.writer(x).detach(), net.reader(net.writer(x)).detach()
    hidden, out = hidden - hidden.mean(0), out - out.mean(0)
    losses = []
    for i in range(5):
        rest = hidden[:, [j for j in range(5) if j != i]]
        fit = torch.linalg.lstsq(rest, out).solution
        losses.append(float((out - rest @ fit).square().sum() / out.square().sum()))
    assert int(np.argmin(found["writer"])) == int(np.argmin(losses))
    assert found["writer"].min() == pytest.approx(min(losses), rel=1e-5)
