"""trace(): touches nothing, says what fails, and knows which modules it must not be given."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import GraphError
from tests.tiny import KINDS, Tiny, Z, build, inputs


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_touched(kind: str) -> None:
    net = build(kind).train()
    before, classes = snapshot(net), [type(m) for m in net.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    graph = gc.trace(net, inputs(kind))
    assert graph.groups
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [type(m) for m in net.modules()] == classes
    assert all(m.training for m in net.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert not any(
        m._forward_hooks or m._forward_pre_hooks for m in net.modules() if "old" not in kind
    )


@pytest.mark.parametrize("kind", KINDS)
def test_slots_cover_each_channel_once(kind: str) -> None:
    graph = gc.trace(build(kind), inputs(kind))
    seen: set[tuple[str, int, int]] = set()
    for group in graph.groups:
        assert group.size >= 2
        for (name, dim), index in group.slots.items():
            assert index.shape[0] == group.size
            mine = {(name, dim, int(i)) for i in index.ravel()}
            assert len(mine) == index.size
            assert not mine & seen
            seen |= mine


def test_names_follow_the_writer() -> None:
    graph = gc.trace(build("plain"), inputs("plain"))
    assert graph.widths == {"linear": 8, "conv2": 6}
    assert repr(graph["conv2"]).startswith("Group('conv2', size=6")
    with pytest.raises(GraphError, match="Did you mean 'conv2'"):
        graph["conv3"]


def test_a_norm_over_all_channels_keeps_them_and_says_where() -> None:
    class Normed(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).unflatten(1, (-1, 2, 2))
            h = h / h.square().mean(1, keepdim=True).add(1e-8).sqrt()
            return self.out(torch.relu(self.conv2(h)))

    graph = gc.trace(Normed(), torch.randn(2, Z))
    assert set(graph.widths) == {"conv2"}
    assert "mean runs over the channels (mean at test_trace.py:" in str(
        graph.reason(("linear.weight", 0))
    )
    assert str(graph.reason(("conv1.weight", 0))) == "is not used by this forward"
    assert "input" in str(graph.reason(("linear.weight", 1)))


def test_a_literal_size_keeps_its_channels_and_names_the_line() -> None:
    class Literal(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).view(-1, 8, 2, 2)
            return self.out(torch.relu(self.conv2(h)))

    graph = gc.trace(Literal(), torch.randn(2, Z))
    assert set(graph.widths) == {"conv2"}
    reason = str(graph.reason(("linear.weight", 0)))
    assert "view" in reason
    assert "test_trace.py:" in reason


def test_an_attribute_that_sizes_a_view_follows() -> None:
    class Sized(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.ch = 8

        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z).view(-1, self.ch, 2, 2)
            return self.out(torch.relu(self.conv2(h)))

    net = Sized()
    graph = gc.trace(net, torch.randn(2, Z))
    assert graph.widths == {"linear": 8, "conv2": 6}
    small = gc.cut(net, gc.Plan.of(graph, {"linear": [0, 3, 5]}), graph=graph)
    assert small.ch == 3
    assert net.ch == 8
    assert small(torch.randn(2, Z)).shape == (2, 3, 2, 2)


def test_keyword_and_mapping_examples() -> None:
    class Named(Tiny):
        def forward(self, *, latents: Tensor, scale: float = 1.0) -> Tensor:
            return super().forward(latents) * scale

    z = torch.randn(2, Z)
    for graph in (gc.trace(Named(), {"latents": z}), gc.trace(Named(), (), {"latents": z})):
        assert graph.widths == {"linear": 8, "conv2": 6}


def test_control_flow_on_data_runs_for_real() -> None:
    class Branching(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            return super().forward(z if float(z.sum()) > 1e9 else -z)

    graph = gc.trace(Branching(), torch.randn(2, Z))
    assert not graph.fake
    assert graph.widths == {"linear": 8, "conv2": 6}


def test_failing_forward_is_named() -> None:
    with pytest.raises(GraphError, match=r"the forward of Tiny fails on the example: RuntimeError"):
        gc.trace(Tiny(), torch.randn(2, Z + 1))


def test_forward_without_tensors_is_refused() -> None:
    class Silent(Tiny):
        def forward(self, z: Tensor) -> Tensor:
            super().forward(z)
            return 3  # type: ignore[return-value]

    with pytest.raises(GraphError, match="returns no tensor"):
        gc.trace(Silent(), torch.randn(2, Z))


def test_module_that_cannot_be_copied_is_refused() -> None:
    net = Tiny()
    net.lines = (i for i in range(3))  # type: ignore[assignment]
    with pytest.raises(GraphError, match=r"Tiny cannot be copied .*__deepcopy__"):
        gc.trace(net, torch.randn(2, Z))


def test_shells_and_wrapped_generators_are_refused() -> None:
    z = torch.randn(2, Z)
    compiled = torch.compile(Tiny(), backend="eager")
    with pytest.raises(GraphError, match=r"inside a OptimizedModule: pass generator\._orig_mod"):
        gc.trace(compiled, z)  # type: ignore[arg-type]
    scripted = torch.jit.trace(Tiny().eval(), z)
    with pytest.raises(GraphError, match="the generator is TorchScript.*pass the module"):
        gc.trace(scripted, z)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="on the meta device, where weights have no values"):
        gc.wrap(Tiny().to("meta"), z.to("meta"))
    net = Tiny()
    gc.wrap(net, z)
    with pytest.raises(GraphError, match="is wrapped"):
        gc.trace(net, z)
    with pytest.raises(GraphError, match=r"is wrapped already: unwrap\(\)"):
        gc.wrap(net, z)


def test_frozen_and_shared_state_is_respected() -> None:
    net = build("shared")
    graph = gc.trace(net, inputs("shared"))
    assert graph.cost().params == sum(p.numel() for p in net.parameters())
    twin = copy.deepcopy(net)
    assert gc.trace(twin, inputs("shared")).widths == graph.widths


class Mute(nn.Module):
    """Overrides train() and eval() and returns nothing, as some published generators do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)

    def eval(self) -> None:  # type: ignore[override]
        super().eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_train_and_eval_may_return_nothing() -> None:
    net, x = Mute(), torch.randn(2, 3, 8, 8)
    masked = gc.wrap(net, x, target="params=0.6")
    masked.advance(1.0)
    small = masked.prune()
    assert isinstance(small, Mute)
    assert gc.verify(net, small, x).passed
    assert gc.inspect(small, x).rows


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (None, "build the generator first"),
        (nn.Conv2d, r"make one first: Conv2d\(\.\.\.\)"),
        (build("plain").state_dict(), "build the generator and load them into it"),
        (torch.tanh, "put what it calls into a module"),
        (gc.wrap(build("plain"), inputs("plain")), r"use its \.generator"),
    ],
)
def test_what_is_no_module_is_refused_with_advice(given: object, advice: str) -> None:
    x = inputs("plain")
    calls = (
        lambda: gc.trace(given, x),  # type: ignore[arg-type]
        lambda: gc.wrap(given, x),  # type: ignore[arg-type]
        lambda: gc.wrap(given),  # type: ignore[arg-type]
        lambda: gc.inspect(given, x),  # type: ignore[arg-type]
        lambda: gc.cut(given, gc.Plan({})),  # type: ignore[arg-type]
        lambda: gc.verify(given, build("plain"), x),  # type: ignore[arg-type]
        lambda: gc.save("unused", given),  # type: ignore[arg-type]
    )
    for call in calls:
        with pytest.raises(GraphError, match=f"expected a torch.nn.Module, not .*{advice}"):
            call()


def test_a_dict_is_no_plan() -> None:
    with pytest.raises(GraphError, match=r"expected a Plan, not a dict: Plan.of\(graph, keep\)"):
        gc.cut(build("plain"), {"conv": [0]})  # type: ignore[arg-type]


class Inferred(Tiny):
    """Operators made of others arrive whole in inference mode."""

    @torch.inference_mode()
    def forward(self, *args: Tensor) -> Tensor:
        return super().forward(*args)


def test_inference_mode_changes_nothing() -> None:
    z = torch.randn(2, Z)
    torch.manual_seed(0)
    plain = Tiny()
    net = Inferred()
    net.load_state_dict(plain.state_dict())
    assert gc.trace(net, z).widths == gc.trace(plain, z).widths
    masked = gc.wrap(net, z)
    plan = gc.random_plan(masked.graph, 0.5, 0)
    masked.apply(plan)
    assert gc.verify(net, gc.cut(net, plan), z, plan=plan).passed
