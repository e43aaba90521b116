"""Gates on raw weights: where they sit, copies of their own, and off again bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.masks.attach import detach, find_masks
from gancompress.masks.mask import Gate
from gancompress.surgery.raw_tensors import raw_tensors
from tests.tiny import KINDS, build, inputs


def facts(net: nn.Module) -> list[object]:
    """Everything that unwrapping must bring back: order, classes, identities, hooks."""
    return [
        list(net.state_dict()),
        [(n, id(p)) for n, p in net.named_parameters(remove_duplicate=False)],
        [(n, id(b)) for n, b in net.named_buffers(remove_duplicate=False)],
        [(n, type(m), m.training, list(m._parameters)) for n, m in net.named_modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()],
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("site", ["reader", "output"])
def test_open_gates_change_nothing_and_come_off(kind: str, site: str) -> None:
    net, x = build(kind), inputs(kind)
    with torch.no_grad():
        before = net(x)
    known, values = facts(net), {k: v.clone() for k, v in net.state_dict().items()}
    cls = type(net)
    if (kind, site) == ("raw", "output"):
        with pytest.raises(GraphError, match="no convolution or linear writes exactly group"):
            gc.wrap(net, x, site=site)
        assert facts(net) == known, "an attempt that fails leaves nothing behind"
        return
    masked = gc.wrap(net, x, site=site)
    assert isinstance(net, cls)
    with torch.no_grad():
        assert torch.equal(net(x), before), "bit for bit"
    assert find_masks(net) == masked.masks
    assert masked.unwrap() is net
    assert facts(net) == known
    assert all(torch.equal(v, values[k]) for k, v in net.state_dict().items())
    with torch.no_grad():
        assert torch.equal(net(x), before)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_names_are_the_plain_ones(kind: str) -> None:
    net, x = build(kind), inputs(kind)
    plain = raw_tensors(net)
    assert list(plain) == [n for n, _ in (*net.named_parameters(), *net.named_buffers())]
    masked = gc.wrap(net, x)
    wrapped = raw_tensors(net)
    assert list(wrapped) == list(plain)
    assert all(wrapped[n] is plain[n] for n in plain)
    masked.unwrap()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_copies_are_isolated(kind: str, when: str) -> None:
    net, x = build(kind), inputs(kind)
    with torch.no_grad():
        expected = net(x)
    twin = copy.deepcopy(net)
    masked = gc.wrap(net, x)
    with torch.no_grad():
        net(x)
    if when == "after":
        twin = copy.deepcopy(net)
        mine, theirs = masked.masks, find_masks(twin)
        assert mine.keys() == theirs.keys()
        assert not {id(m) for m in mine.values()} & {id(m) for m in theirs.values()}
    masked.apply(gc.random_plan(masked.graph, keep=0.4, seed=1))
    with torch.no_grad():
        assert not torch.equal(net(x), expected)
        assert torch.equal(twin(x), expected), "closing gates of one leaves the other alone"
    masked.unwrap()
    with torch.no_grad():
        assert torch.equal(twin(x), expected), "taking gates off one leaves the other alone"
        detach(twin)
        assert torch.equal(twin(x), expected)
        assert torch.equal(net(x), expected)
    assert facts(twin)[0] == facts(net)[0]


def test_masks_appear_once_in_the_generator() -> None:
    net = build("shared")
    masked = gc.wrap(net, inputs("shared"))
    names = [n for n in net.state_dict() if n.endswith(".scores")]
    assert len(names) == len(masked.masks)
    assert {id(p) for p in masked.parameters()} <= {id(p) for p in net.parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_round_trip(kind: str) -> None:
    nets = []
    for seed in (0, 1):
        net = build(kind)
        masked = gc.wrap(net, inputs(kind))
        if seed == 0:
            with torch.no_grad():
                for p in net.parameters():
                    p.add_(0.01 * torch.randn_like(p))
                for mask in masked.masks.values():
                    mask.alive[1] = False
            masked.advance(0.5)
        nets.append((net, masked))
    (a, one), (b, two) = nets
    missing = b.load_state_dict(a.state_dict())
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    with torch.no_grad():
        assert torch.equal(a(inputs(kind)), b(inputs(kind)))
    assert one.cost() == two.cost()
    assert all(m._progress == 0.5 for m in two.masks.values()), "annealing goes on where it was"


def test_users_own_spectral_norm_sees_gated_zeros() -> None:
    """Gates sit on the raw weight, under a parametrization that was there before."""
    net, x = build("spectral_new"), inputs("spectral_new")
    masked = gc.wrap(net, x)
    inner = net.out.parametrizations.weight
    assert isinstance(inner.parametrizations.original[0], Gate)
    masked.apply(gc.Plan.of(masked.graph, {"conv2": [0, 2]}))
    assert (net.out.weight[:, [1, 3, 4, 5]] == 0).all()
    raw = inner.parametrizations.original.original.detach().clone()
    raw[:, [1, 3, 4, 5]] = 0
    sigma = torch.linalg.matrix_norm(raw.flatten(1), 2)
    for _ in range(30):
        net.train()(x)
    assert torch.allclose(net.out.weight, raw / sigma, atol=1e-4), "sigma of what is left"


def test_parametrization_added_over_a_gate_is_not_lost() -> None:
    net, x = build("plain"), inputs("plain")
    masked = gc.wrap(net, x)
    parametrizations.spectral_norm(net.out)
    with pytest.raises(GraphError, match="another parametrization after wrap"):
        masked.unwrap()
    assert isinstance(net.out.parametrizations.weight[0], Gate), "nothing was taken off"
    assert len(net.out.parametrizations.weight) == 2


def sequential_with_own_parameter() -> nn.Module:
    class Scaled(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
            self.mix = nn.Parameter(torch.randn(3, 8))

        def forward(self, x: Tensor) -> Tensor:
            h = x
            for layer in list(self)[:-1]:
                h = layer(h)
            return self[-1](h) + torch.einsum("oc,nchw->nohw", self.mix, h)

    return Scaled()


def listed() -> nn.Module:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 8, 1)
            self.b = nn.Conv2d(8, 3, 1)
            self.mix = nn.Parameter(torch.randn(3, 8))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            assert len(list(self.children())) == 2
            return self.b(h) + torch.einsum("oc,nchw->nohw", self.mix, h)

    return Listed()


@pytest.mark.parametrize("make", [sequential_with_own_parameter, listed])
def test_owner_that_walks_over_its_children(make: Callable[[], nn.Module]) -> None:
    """A gate adds a child to its owner: where the owner counts them, say so at once."""
    net, x = make().eval(), torch.randn(2, 3, 4, 4)
    known = facts(net)
    with pytest.raises(GraphError, match="children"):
        gc.wrap(net, x)
    assert facts(net) == known


@pytest.mark.parametrize("name", ["missing", "running_mean"])
def test_what_cannot_be_gated_is_refused(name: str) -> None:
    from gancompress.masks.attach import _owner

    with pytest.raises(GraphError, match="cannot be gated. Exclude its layer"):
        _owner(build("plain"), f"bn1.{name}")


class Scaled(nn.Module):
    """A hypernetwork in small: runs a part with each of its parameters scaled by channel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.part = nn.Linear(4, 16), nn.Linear(16, 16)
        self.scale, self.last = nn.Parameter(torch.rand(16)), nn.Linear(16, 3)

    def scaled(self) -> dict[str, Tensor]:
        named = dict(self.part.named_parameters())
        return {n: p * self.scale.view(-1, *[1] * (p.dim() - 1)) for n, p in named.items()}

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z).relu()
        return self.last(torch.func.functional_call(self.part, self.scaled(), (h,)).relu())


class Decayed(Scaled):
    """Adds the size of all its weights to what it puts out."""

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.part(self.first(z))) + sum(p.norm() for p in self.parameters())


class OnDevice(Scaled):
    """Asks its first parameter for a device, as many do."""

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.part(self.first(z.to(next(self.parameters()).device))).relu())


@pytest.mark.parametrize("kind", [Scaled, Decayed])
def test_a_forward_that_would_take_scores_for_weights_is_named(kind: type[nn.Module]) -> None:
    net, z = kind(), torch.randn(3, 4)
    known = facts(net)
    with pytest.raises(GraphError, match="walks over its parameters"):
        gc.wrap(net, z)
    assert facts(net) == known


def test_a_walk_that_only_asks_is_no_walk() -> None:
    net, z = OnDevice(), torch.randn(3, 4)
    masked = gc.wrap(net, z)
    assert not any("odd" in name for name, _ in net.named_parameters())
    masked.unwrap()


def test_the_graph_form_names_its_parameters() -> None:
    net, z = Scaled().eval(), torch.randn(3, 4)
    masked = gc.wrap(net, z, form="graph", target="params=1.5x")
    masked.advance(1.0)
    assert (masked.prune()(z) - masked.generator(z)).abs().max() < 1e-5


class ByClass(nn.Module):
    """Runs its layers by their class, as code that was made from a list of names does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 3)])

    def step(self, layer: nn.Module, h: Tensor) -> Tensor:
        return layer(h).relu() if layer.__class__.__name__ == "Linear" else h

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = self.step(layer, z)
        return z


class ByType(ByClass):
    def step(self, layer: nn.Module, h: Tensor) -> Tensor:
        return layer(h).relu() if type(layer) is nn.Linear else h.mean(1, keepdim=True) * z_of(h)


def z_of(h: Tensor) -> Tensor:
    return torch.ones(1, 16)


def test_a_layer_that_is_asked_for_its_class_answers_as_without_gates() -> None:
    net, z = ByClass().eval(), torch.randn(3, 4)
    before, known = net(z), facts(net)
    masked = gc.wrap(net, z, target="params=1.5x")
    assert torch.equal(net(z), before)
    twin = copy.deepcopy(net)
    assert torch.equal(twin(z), before)
    masked.advance(1.0)
    small = masked.prune()
    assert (small(z) - net(z)).abs().max() < 1e-5
    masked.unwrap()
    assert facts(net) == known


def test_torch_is_told_the_true_class_of_a_gated_layer() -> None:
    net, z = ByClass().eval(), torch.randn(3, 4)
    masked = gc.wrap(net, z)
    layer = net.layers[1]
    assert layer.__class__ is nn.Linear
    parametrize.register_parametrization(layer, "bias", nn.Identity())
    assert not {"weight", "bias"} & vars(nn.Linear).keys()
    assert nn.Linear(2, 2).bias.shape == (2,)
    net(z)
    parametrize.remove_parametrizations(layer, "bias")
    masked.unwrap()
    assert type(layer) is nn.Linear
    assert not {"weight", "bias"} & vars(nn.Linear).keys()


def test_a_forward_that_gates_change_is_refused_at_once() -> None:
    net, z = ByType().eval(), torch.randn(3, 4)
    known = facts(net)
    with pytest.raises(GraphError, match=r"very class .*isinstance"):
        gc.wrap(net, z)
    assert facts(net) == known


class Writing(ByClass):
    """Writes into what it is given."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.mul_(1.5))


def test_inputs_that_a_forward_writes_to_stay_the_users() -> None:
    net, z = Writing().eval(), torch.randn(3, 4)
    before = z.clone()
    masked = gc.wrap(net, z, target="params=1.5x")
    masked.advance(1.0)
    masked.shrink()
    masked.prune()
    gc.cut(masked.unwrap(), gc.random_plan(g := gc.trace(net, z)), graph=g)
    assert torch.equal(z, before)
