"""What only train() does is cut along, or kept with the reason; and verified."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class Deep(Base):
    """Deep supervision: two more heads in train()."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 3), nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 3))

    def forward(self, x: Tensor):
        h = self.a(x).relu()
        g = self.b(h).relu()
        if self.training:
            return {"out": self.c(g), "aux": [self.one(h), self.two(g)]}
        return self.c(g)


class Mean(Base):
    """Centres its features by their mean over batches, kept in train() and bound anew."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return self.c(self.b((h - self.mean).relu()).relu())


class Energy(Base):
    """train() divides by a norm over all channels, which eval() leaves out."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        if self.training:
            h = h / h.std(1, keepdim=True).add(1)
        return self.c(self.b(h).relu())


class Noisy(Base):
    """Dropout, and noise in the shape of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.dropout(self.a(x).relu(), 0.3, self.training)
        if self.training:
            h = h + 0.1 * torch.randn_like(h)
        return self.c(self.b(h).relu())


class Both(Deep):
    """Heads that only train, and dropout: train() has to be traced, and draws for each channel."""

    def forward(self, x: Tensor):
        h = F.dropout(self.a(x).relu(), 0.2, self.training)
        g = F.dropout1d(self.b(h).relu()[..., None], 0.2, self.training)[..., 0]
        if self.training:
            return {"out": self.c(g), "aux": [self.one(h), self.two(g + 0.1 * torch.randn_like(g))]}
        return self.c(g)


class Chancy(Base):
    """Stochastic depth by Python's random numbers: heads that some runs of train() leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(16, 3) for _ in range(3))

    def forward(self, x: Tensor):
        h = self.a(x).relu()
        aux = []
        for head in self.heads:
            if self.training and random.random() < 0.5:
                aux.append(head(h))
        out = self.c(self.b(h).relu())
        return {"out": out, "aux": aux} if self.training else out


class Torch(Chancy):
    """The same by torch's random numbers, which a run on fake tensors has no values of."""

    def forward(self, x: Tensor):
        h = self.a(x).relu()
        aux = []
        for head in self.heads:
            if self.training and torch.rand(()) < 0.3:
                aux.append(head(h))
        out = self.c(self.b(h).relu())
        return {"out": out, "aux": aux} if self.training else out


class Tokens(Base):
    """A batch norm of tokens: in train() its statistics run over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.a(x)[:, None].expand(-1, 5, -1) * torch.arange(1.0, 6)[:, None])
        return self.c(self.b(h.relu()).relu().mean(1))


class Planes(Base):
    """Each channel is a sample of a norm of one plane: in train() all of them share statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.c(self.b(self.norm(h.reshape(-1, 1)).view_as(h).relu()).relu())


def flat(out: Tensor | dict | list) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    items = out.values() if isinstance(out, dict) else out
    return [t for item in items for t in flat(item)]


def pruned(
    make: Callable[[], nn.Module], target: str = "params=1.5x"
) -> tuple[nn.Module, nn.Module, Tensor, gc.Masked]:
    net, x = make(), torch.randn(8, 6)
    masked = gc.wrap(net, x, target=target)
    masked.advance(1.0)
    return net, masked.prune(), x, masked


@pytest.mark.parametrize("make", [Deep, Mean, Energy])
def test_train_mode_is_that_of_the_masked_network(make: Callable[[], nn.Module]) -> None:
    net, small, x, masked = pruned(make)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in make().parameters())
    for mode in (True, False, True):
        pairs = zip(flat(net.train(mode)(x)), flat(small.train(mode)(x)), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    assert masked.verification is not None
    assert (masked.verification.max_error_training or 0) <= 1e-6


@pytest.mark.parametrize("make", [Deep, Mean])
def test_a_live_cut_trains_on(make: Callable[[], nn.Module]) -> None:
    net, x = make(), torch.randn(8, 6)
    masked = gc.wrap(net, x, target="params=2x")
    for progress in (0.5, 1.0):
        masked.advance(progress)
        masked.shrink()
        sum(t.sum() for t in flat(net.train()(x))).backward()
        net.zero_grad(set_to_none=True)
    assert masked.graph.trains != "fails"
    assert net.a.out_features < 16


def test_chance_in_train_mode_keeps_no_channel() -> None:
    net, small, x, masked = pruned(Noisy, "params=4x")
    assert masked.graph.trains in ("same", "differs")
    assert small.a.out_features < 16
    assert small.train()(x).shape == net.train()(x).shape


def test_chance_keeps_no_channel_where_train_mode_is_traced() -> None:
    net, small, x, masked = pruned(Both, "params=2x")
    assert masked.graph.trains == "traced"
    assert {"a", "b"} <= {g.name for g in masked.graph.groups}
    assert small.one.in_features == small.a.out_features < 16
    assert (small.eval()(x) - net.eval()(x)).abs().max() < 1e-5
    assert flat(small.train()(x))[0].shape == (8, 3)


@pytest.mark.parametrize("make", [Chancy, Torch])
def test_layers_that_chance_leaves_out_of_a_run_are_cut_along(make: type[Chancy]) -> None:
    state = random.getstate()
    net, small, x, masked = pruned(make, "params=1.5x")
    assert random.getstate() == state
    assert masked.graph.trains == "traced"
    assert {head.in_features for head in small.heads} == {small.a.out_features}
    assert small.a.out_features < 16
    for seed in range(8):
        random.seed(seed)
        torch.manual_seed(seed)
        want = flat(net.train()(x))
        random.seed(seed)
        torch.manual_seed(seed)
        got = flat(small.train()(x))
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(want, got, strict=True))
    random.setstate(state)


def test_what_train_cannot_let_go_has_that_reason() -> None:
    found = gc.inspect(Energy(), torch.randn(8, 6))
    held = {r.layer: r.reason for r in found.rows if r.status == "kept"}
    assert "a" in held
    assert "b" not in held


@pytest.mark.parametrize("make", [Tokens, Planes])
def test_a_norm_that_stands_across_channels_holds_them_in_train_mode(
    make: Callable[[], nn.Module],
) -> None:
    net, small, x, masked = pruned(make, "params=1.3x")
    assert {g.name for g in masked.graph.groups} == {"b"}
    held = {r.layer: r.reason for r in gc.inspect(make(), x).rows if r.status == "kept"}
    assert "statistics of the batch" in held["a"]
    assert torch.allclose(net.train()(x), small.train()(x), atol=1e-5)


def test_verify_looks_into_train_mode() -> None:
    net, x = Deep(), torch.randn(8, 6)
    wrong = Deep()
    with torch.no_grad():
        wrong.one.bias[1] += 1e-2
    found = gc.verify(net, wrong, x)
    assert found.max_error <= 1e-9
    assert not found.passed
    assert "in train()" in str(found)


def test_a_network_whose_two_modes_are_alike_is_traced_once() -> None:
    net = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)
    )
    graph = gc.trace(net, torch.randn(4, 6))
    assert (graph.trains, graph.passes) == ("same", [False])


def test_train_mode_that_does_not_run_on_the_example_is_left_out() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(1, 6)
    assert gc.trace(net, x).trains == "fails"
    assert gc.verify(net, net, x).max_error_training is None
