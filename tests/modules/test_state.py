"""After any call on a network its state is what it was, to the identity of what it holds."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.modules.undisturbed import BufferGuard, evaluating, look, traceless, undisturbed


@dataclass
class Notes:
    """A helper that a module keeps."""

    seen: int = 0
    maps: list[Tensor] = field(default_factory=list)


class Slotted:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Stateful(nn.Module):
    """Changes each kind of state that a forward can reach; its output follows none of it."""

    calls = 0
    shared: dict[str, int] = {}  # noqa: RUF012 - that is the point

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 10), nn.Linear(10, 3)
        self.register_buffer("rebound", torch.zeros(3))
        self.register_buffer("written", torch.zeros(3), persistent=False)
        self.last: Tensor | None = None
        self.on, self.queue, self.past = True, collections.deque(maxlen=2), [torch.ones(2)]
        self.notes, self.slotted, self.table = Notes(), Slotted(), {"x": (torch.zeros(2), [1])}
        self.array, self.names = np.zeros(3), {"first"}
        self.dice, self.other = random.Random(1), np.random.default_rng(2)
        self.cached = 1

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        self.rebound = self.rebound + 1
        self.written += 1
        self.last, self.on = h.detach()[:, :0], not self.on
        self.queue.append(1)
        self.past.append(self.past[0] + 1)
        self.past[0].mul_(2)
        self.notes.seen += 1
        self.notes.maps.append(torch.ones(1))
        self.slotted.count += 1
        self.table["x"][1].append(2)
        self.table["x"][0].add_(1)
        self.table["y"] = 1
        self.array += 1
        self.names.add(f"call {len(self.names)}")
        self.dice.random()
        self.other.random()
        type(self).calls += 1
        self.shared["calls"] = self.shared.get("calls", 0) + 1
        self.added = 1
        if hasattr(self, "cached"):
            del self.cached
        return self.b(h)


def values(module: nn.Module) -> dict[str, Any]:
    return {
        "attributes": {k: id(v) for k, v in vars(module).items() if k != "training"},
        "order": list(vars(module)),
        "buffers": {k: (id(v), v.tolist()) for k, v in module._buffers.items() if v is not None},
        "notes": (module.notes.seen, len(module.notes.maps), module.slotted.count),
        "lists": ([t.tolist() for t in module.past], list(module.queue), sorted(module.names)),
        "table": ([str(v) for v in module.table.values()], list(module.table)),
        "array": module.array.tolist(),
        "dice": (module.dice.getstate(), str(module.other.bit_generator.state)),
        "class": (Stateful.calls, dict(Stateful.shared)),
    }


def prune(net: nn.Module, x: Tensor) -> None:
    masked = gc.wrap(net, x, target="params=1.5x")
    masked.advance(1.0)
    masked.prune()
    masked.unwrap()


def run_in(context: Callable[..., Any]) -> Callable[[nn.Module, Tensor], None]:
    def use(net: nn.Module, x: Tensor) -> None:
        with context(net):
            net(x)

    return use


USES: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "trace": gc.trace,
    "inspect": gc.inspect,
    "wrap and prune": prune,
    "cut": lambda net, x: gc.cut(net, gc.random_plan(g := gc.trace(net, x)), graph=g),
    "verify": lambda net, x: gc.verify(net, net, x),
    "look": lambda net, x: look(net, (x,)),
    "traceless": lambda net, x: traceless(net, (x,)),
    "evaluating": run_in(evaluating),
    "undisturbed": run_in(undisturbed),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("training", [False, True])
def test_state_is_as_before(use: str, training: bool) -> None:
    net, x = Stateful().train(training), torch.randn(2, 4)
    before = values(net)
    USES[use](net, x)
    assert values(net) == before
    assert net.training is training


def test_a_failing_forward_leaves_nothing_either() -> None:
    net = Stateful()
    before = values(net)
    with pytest.raises(RuntimeError, match="halt"), undisturbed(net):
        raise RuntimeError(f"halt after {net(torch.randn(2, 4)).shape}")
    assert values(net) == before


def test_parameters_that_a_forward_writes_to_come_back() -> None:
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.a.weight.clamp_(-0.01, 0.01)
                self.b.weight.data = self.b.weight.data * 2
            return self.b(self.a(x))

    net = Clamped()
    before = [(p.data_ptr(), p.detach().clone()) for p in net.parameters()]
    with undisturbed(net):
        net(torch.randn(2, 4))
    for p, (place, value) in zip(net.parameters(), before, strict=True):
        assert p.data_ptr() == place
        assert torch.equal(p, value)


def test_a_guard_puts_back_what_a_bad_step_bound_anew() -> None:
    net = Stateful()
    buffers, last = dict(net._buffers), net.last
    guard = BufferGuard(net)
    net(torch.full((2, 4), float("nan")))
    guard.restore()
    assert all(net._buffers[k] is v for k, v in buffers.items())
    assert net.written.tolist() == [0, 0, 0]
    assert net.last is last
    assert net.on is True


class Carried(nn.Module):
    """Carries a map from call to call, in one of several places."""

    def __init__(self, place: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read, self.mix, self.out = nn.Linear(4, 10), nn.Linear(20, 10), nn.Linear(10, 3)
        self.place, self.box, self.items, self.notes = place, {}, [], Notes()

    def forward(self, x: Tensor) -> Tensor:
        h = self.read(x).relu()
        last = {
            "dict": lambda: self.box.get("last"),
            "list": lambda: self.items[-1] if self.items else None,
            "helper": lambda: self.notes.maps[-1] if self.notes.maps else None,
            "attribute": lambda: getattr(self, "last", None),
        }[self.place]()
        h = self.mix(torch.cat([h, torch.zeros_like(h) if last is None else last], -1)).relu()
        if self.place == "dict":
            self.box["last"] = h.detach()
        elif self.place == "list":
            self.items.append(h.detach())
        elif self.place == "helper":
            self.notes.maps.append(h.detach())
        else:
            self.last = h.detach()
        return self.out(h)


@pytest.mark.parametrize("place", ["dict", "list", "helper", "attribute"])
def test_calls_in_a_row_are_those_of_the_masked_network(place: str) -> None:
    net, x = Carried(place).eval(), torch.randn(2, 4)
    masked = gc.wrap(net, x, target="params=1.8x")
    masked.advance(1.0)
    small = masked.prune()
    assert small.mix.in_features < 20
    assert masked.verification is not None
    assert masked.verification.max_error_repeated is not None
    for _ in range(3):
        assert torch.allclose(net(x), small(x), atol=1e-5)


def test_a_wrong_second_call_is_found() -> None:
    class Second(Carried):
        def forward(self, x: Tensor) -> Tensor:
            first = not self.items
            return super().forward(x) + (0 if first else 1e-2 * x.sum())

    net, x = Carried("list").eval(), torch.randn(2, 4)
    wrong = Second("list").eval()
    wrong.load_state_dict(net.state_dict())
    found = gc.verify(net, wrong, x)
    assert found.max_error <= 1e-9
    assert not found.passed
    assert "in a further call" in str(found)


def test_chance_that_no_seed_reaches_is_named() -> None:
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(4, 10), nn.Linear(10, 3)

        def forward(self, x: Tensor) -> Tensor:
            dice = torch.Generator()
            dice.seed()
            return self.b(self.a(x + torch.randn(x.shape, generator=dice)).relu())

    with pytest.raises(GraphError, match="two calls of Drawn .* differ"):
        gc.wrap(Drawn(), torch.randn(2, 4), target="params=1.5x")


def test_chance_in_the_shape_of_channels_is_the_reason_to_keep_them() -> None:
    class Noise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(4, 10), nn.Linear(10, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.c(self.b((h + torch.randn_like(h)).relu()).relu())

    held = {r.layer: r.reason for r in gc.inspect(Noise(), torch.randn(2, 4)).rows}
    assert "random" in held["a"]
    assert not held["b"]
