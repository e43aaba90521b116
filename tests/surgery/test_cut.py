"""cut(): exact, keeps what makes a tensor what it is, takes optimisers and copies along."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.groups import ChannelGraph
from tests.tiny import KINDS, Tiny, build, inputs

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, 1e-2, betas=(0.5, 0.9)),
    "amsgrad": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.5, centered=True),
    "radam": lambda p: torch.optim.RAdam(p, 1e-2),
}


def prepared(
    kind: str = "plain", keep: float = 0.5
) -> tuple[nn.Module, Tensor, ChannelGraph, gc.Plan]:
    net, x = build(kind), inputs(kind)
    graph = gc.trace(net, x)
    return net, x, graph, gc.random_plan(graph, keep=keep, seed=4)


def loss(net: nn.Module, x: Tensor) -> Tensor:
    return (net(x) - 0.3).square().mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_exact_in_float64(kind: str, seed: int) -> None:
    net, x = build(kind), inputs(kind)
    graph = gc.trace(net, x)
    plan = gc.random_plan(graph, keep=0.5, seed=seed)
    small = gc.cut(net, plan, graph=graph)
    masked = gc.wrap(net, x)
    masked.apply(plan)
    found = gc.verify(net, small, x, plan=plan)
    assert found.passed, found
    assert found.max_error <= 1e-9
    assert sum(p.numel() for p in small.parameters()) == graph.cost(plan.widths).params


@pytest.mark.parametrize("kind", KINDS)
def test_result_is_plain_and_independent(kind: str) -> None:
    net, x, graph, plan = prepared(kind)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    small = gc.cut(net, plan, graph=graph)
    assert type(small) is type(net)
    assert list(small.state_dict()) == list(net.state_dict())
    assert not any(type(m).__module__.startswith("gancompress") for m in small.modules())
    mine = {t.data_ptr() for t in (*net.parameters(), *net.buffers()) if t.numel()}
    assert not mine & {t.data_ptr() for t in (*small.parameters(), *small.buffers())}
    small.train()
    loss(small, x).backward()
    with torch.no_grad():
        for p in small.parameters():
            p.add_(1.0)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_shared_weights_stay_shared() -> None:
    net, _, graph, plan = prepared("shared")
    small = gc.cut(net, plan, graph=graph)
    assert small.a.weight is small.b.weight
    assert small.a.weight.shape[0] == 4


def test_what_makes_a_tensor_is_kept() -> None:
    net, x, graph, plan = prepared()
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.conv1.weight.requires_grad_(False)
    net.conv1.weight.lr_scale = 0.5
    net.bn1.eval()
    net.bn2.train()
    calls = []
    net.conv2.register_forward_hook(lambda m, a, y: calls.append(m))
    small = gc.cut(net, plan, graph=graph)
    assert small.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not small.conv1.weight.requires_grad
    assert small.conv1.weight.lr_scale == 0.5
    assert small.conv2.weight.requires_grad
    assert [m.training for m in small.modules()] == [m.training for m in net.modules()]
    calls.clear()
    small(x)
    assert calls == [small.conv2]
    assert (small.conv2.out_channels, small.conv2.in_channels) == (3, 4)
    assert (small.linear.out_features, small.bn1.num_features) == (16, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    net, x = build("plain").to(dtype), inputs("plain").to(dtype)
    graph = gc.trace(net, x)
    small = gc.cut(net, gc.random_plan(graph, seed=1), graph=graph)
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert small(x).dtype == dtype


def test_gradients_are_sliced() -> None:
    net, x, graph, plan = prepared()
    loss(net, x).backward()
    small = gc.cut(net, plan, graph=graph)
    kept = plan.keep["conv2"]
    assert net.conv2.bias.grad is not None
    assert small.conv2.bias.grad is not None
    assert torch.equal(small.conv2.bias.grad, net.conv2.bias.grad[kept])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_and_copy_follow(name: str) -> None:
    """The next steps are those of the uncut network whose dropped channels are held at zero."""
    net, x = build("plain").double(), inputs("plain").double()
    graph = gc.trace(net, x)
    plan = gc.random_plan(graph, keep=0.5, seed=4)
    optimizer, ema = OPTIMIZERS[name](net.parameters()), copy.deepcopy(net)
    for _ in range(3):
        optimizer.zero_grad()
        loss(net, x).backward()
        optimizer.step()
    small = gc.cut(net, plan, graph=graph, optimizers=[optimizer], copies=[ema])
    held = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in small.parameters())
    assert set(map(id, optimizer.state)) <= set(held)
    for p, state in optimizer.state.items():
        for value in state.values():
            assert not isinstance(value, Tensor) or value.dim() == 0 or value.shape == p.shape
    assert [tuple(p.shape) for p in ema.parameters()] == [
        tuple(p.shape) for p in small.parameters()
    ]
    assert type(ema) is Tiny
    ema(x)

    # The same from scratch: slice the state by hand.
    again = build("plain").double()
    theirs = OPTIMIZERS[name](again.parameters())
    for _ in range(3):
        theirs.zero_grad()
        loss(again, x).backward()
        theirs.step()
    for (key, p), q in zip(small.named_parameters(), again.parameters(), strict=True):
        row = plan.tensors.get(key, [None] * p.dim())
        for k, value in optimizer.state[p].items():
            old = theirs.state[q][k]
            if isinstance(old, Tensor) and old.dim():
                for d, kept in enumerate(row):
                    old = old if kept is None else old.index_select(d, torch.tensor(kept))
            assert torch.equal(value, old) if isinstance(value, Tensor) else value == old
    loss(small, x).backward()
    optimizer.step()


def test_state_that_cannot_be_sliced_stops_the_cut_before_it_starts() -> None:
    net, x, graph, plan = prepared()
    for optimizer in (torch.optim.Adafactor(net.parameters()), torch.optim.LBFGS(net.parameters())):

        def closure() -> Tensor:
            net.zero_grad()
            value = loss(net, x)
            value.backward()
            return value

        optimizer.step(closure)
        params, state = list(optimizer.param_groups[0]["params"]), dict(optimizer.state)
        ema = copy.deepcopy(net)
        with pytest.raises(GraphError, match="cannot be sliced"):
            gc.cut(net, plan, graph=graph, optimizers=[optimizer], copies=[ema])
        assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], params, strict=True))
        assert all(optimizer.state[k] is v for k, v in state.items())
        assert ema.conv2.weight.shape == net.conv2.weight.shape


def test_plan_of_another_network_is_refused() -> None:
    _, _, _, plan = prepared()
    with pytest.raises(GraphError, match="the plan was made where"):
        gc.cut(Tiny(4), plan)
    with pytest.raises(GraphError, match=r"which Sequential does not have"):
        gc.cut(build("sequential"), plan)


@pytest.mark.parametrize("name", KINDS)
def test_a_wrapped_generator_is_cut_too(name: str) -> None:
    """`apply`, `cut`, `verify`: the gates stay on the generator and are not on what comes back."""
    net, example = build(name), inputs(name)
    graph = gc.trace(net, example)
    plan = gc.random_plan(graph, keep=0.5, seed=3)
    masked = gc.wrap(net, example)
    copies = [] if name == "weight_old" else [copy.deepcopy(net)]  # torch cannot copy that one
    optimizer = torch.optim.Adam(net.parameters())
    loss(net, example).backward()
    optimizer.step()
    masked.apply(plan)
    small = gc.cut(net, plan, graph=graph, optimizers=[optimizer], copies=copies)
    for module in (small, *copies):
        assert not any("gancompress" in type(m).__module__ for m in module.modules())
        assert list(module.state_dict()) == list(build(name).state_dict())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in small.parameters()}
    assert gc.verify(net, small, example, plan=plan).passed
    assert any(getattr(m, "is_gancompress_gate", False) for m in net.modules())


def test_attributes_of_another_network_are_refused() -> None:
    net = build("plain")
    for path, name, value in (("conv1", "bias", 3), ("conv1", "training", 1), ("no.such", "ch", 2)):
        with pytest.raises(GraphError, match="the plan sets attribute"):
            gc.cut(net, gc.Plan({}, {}, [(path, name, value)]))


def test_copy_of_another_shape_stops_the_cut() -> None:
    net, _, graph, plan = prepared()
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.raises(GraphError, match="the plan was made where"):
        gc.cut(net, plan, graph=graph, optimizers=[optimizer], copies=[Tiny(4)])
    assert optimizer.param_groups[0]["params"][0] is net.linear.weight


def test_cut_network_that_does_not_run_is_refused() -> None:
    net, x, graph, plan = prepared()

    class Fixed(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            assert self.conv2.weight.shape[0] == 6, "six it must be"
            return super().forward(z)

    fixed = Fixed()
    fixed.load_state_dict(net.state_dict())
    with pytest.raises(GraphError, match="does not run .AssertionError: six it must be"):
        gc.cut(fixed, plan, graph=graph)
    assert "six" in str(gc.trace(fixed, x).reason(("conv2.weight", 0)))
