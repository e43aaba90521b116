"""Graph form: what Python's literal sizes keep whole becomes prunable, exact and trainable."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gancompress as gc
from gancompress.errors import GraphError
from gancompress.graph.form.module import GraphForm

from .literal_nets import (
    LAYERS,
    MOTIFS,
    Merged,
    Motif,
    View,
    Z,
    Zeros,
    build,
    latents,
    train,
)


@pytest.mark.parametrize("kind", MOTIFS)
def test_literals_pin_the_module_and_not_the_graph(kind: type[nn.Module]) -> None:
    net = build(kind).eval()
    rows = gc.inspect(net, latents()).rows
    pinned = {r.layer: r.reason for r in rows if r.status != "prunable" and r.layer in LAYERS}
    assert pinned
    assert all("literal_nets.py" in reason for reason in pinned.values())

    masked = gc.wrap(net, latents(), form="graph")
    for name in LAYERS:
        atoms = masked.graph.slots[(f"{name}.weight", 0)].atoms
        assert atoms is not None
        assert (masked.graph.owners(atoms) >= 0).all()
    train(masked)
    plan = gc.random_plan(masked.graph, 0.5, 1)
    masked.apply(plan)
    small = masked.prune(plan)
    assert isinstance(small, GraphForm)
    for n in (1, 2, 5):
        assert gc.verify(masked.generator, small, latents(n)).max_error <= 1e-9
        assert small(*latents(n)).shape == net(*latents(n)).shape
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


class Rich(nn.Module):
    """Keyword inputs, several outputs, dropout, norms of weights, a part without gradients."""

    def __init__(self, old: bool = False) -> None:
        super().__init__()
        norm = torch.nn.utils.spectral_norm if old else parametrizations.spectral_norm
        self.embed = nn.Embedding(4, Z)
        self.first = norm(nn.Linear(Z, 16 * 9))
        self.conv = norm(nn.Conv2d(16, 16, 3, padding=1))
        self.norm = nn.BatchNorm2d(16)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Conv2d(16, 3, 1)

    def forward(
        self, z: Tensor, y: Tensor | None = None, *, scale: float = 1.0, extra: dict | None = None
    ) -> dict[str, Tensor | list]:
        if y is not None:
            z = z + self.embed(y)
        x = self.conv(self.conv(self.first(z).view(-1, 16, 3, 3)))  # its power iteration runs twice
        x = self.drop(F.relu(self.norm(x)))
        with torch.no_grad():
            mean = x.mean((0, 2, 3)).view(1, 16, 1, 1)
        image = torch.tanh(self.last(x - mean)) * scale
        return {"image": image, "more": [image * 2, extra["a"] if extra else None]}


def rich_inputs(n: int) -> tuple[tuple[Tensor], dict]:
    labels = torch.arange(n) % 4
    return latents(n), {"y": labels, "scale": 0.5, "extra": {"a": torch.ones(n, 2)}}


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("old", [False, True])
def test_modes_keywords_and_outputs_are_those_of_the_generator(old: bool, tmp_path: Path) -> None:
    net = build(lambda: Rich(old)).train()
    form = gc.to_graph(net, *rich_inputs(2))
    assert list(form.state_dict()) == list(net.state_dict())
    assert form.training
    for training in (True, True, False):
        for module in (net, form):
            module.train(training)
        args, kwargs = rich_inputs(3)
        outs = []
        for module in (net, form):
            torch.manual_seed(0)
            outs.append(module(*args, **kwargs))
        assert torch.equal(outs[0]["image"], outs[1]["image"])
        assert torch.equal(outs[0]["more"][0], outs[1]["more"][0])
        for (name, a), b in zip(net.named_buffers(), form.buffers(), strict=True):
            assert torch.equal(a, b), name

    # A frozen norm stays frozen: each layer's own flag counts.
    form.train()
    form.norm.eval()
    before = form.norm.running_mean.clone()
    form(*args, **kwargs)
    assert torch.equal(before, form.norm.running_mean)

    masked = gc.wrap(net, *rich_inputs(2), form="graph", target="params=2x")
    live, optimizer = masked.generator.train(), None
    optimizer = torch.optim.Adam(live.parameters(), 1e-3)
    average = copy.deepcopy(live)
    for step in range(3):
        loss = live(*args, **kwargs)["image"].square().mean() + 1e-3 * masked.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        masked.advance((step + 1) / 3)
        masked.shrink([optimizer], [average])
    small = masked.prune()
    assert average(*args, **kwargs)["image"].shape == (3, 3, 3, 3)
    assert (
        sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters()) / 1.9
    )

    gc.save(tmp_path / "small", small, plan=masked.whole_plan())
    back = gc.load(lambda: Rich(old), tmp_path / "small")
    assert list(back.state_dict()) == list(small.state_dict())
    for training in (False, True):
        outs = []
        for module in (small.train(training), back.train(training)):
            torch.manual_seed(0)
            outs.append(module(*args, **kwargs)["image"])
        assert torch.equal(*outs)


class PowerIteration(nn.Conv2d):
    """Spectral norm by hand: train() alone writes the vector and the value it found."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o, 3, padding=1)
        self.register_buffer("u", torch.randn(1, o))
        self.register_buffer("sigma", torch.ones(1))

    def forward(self, input: Tensor) -> Tensor:
        rows = self.weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(self.u @ rows)
            u = F.normalize(v @ rows.t())
            if self.training:
                self.u[:] = u
        sigma = (v @ rows.t() @ u.t()).squeeze()
        if self.training:
            with torch.no_grad():
                self.sigma[:] = sigma
        return F.conv2d(input, self.weight / sigma, self.bias, padding=1)


class ByHand(View):
    def __init__(self) -> None:
        super().__init__()
        self.conv = PowerIteration(16, 16)

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def test_writes_that_only_training_does() -> None:
    net = build(ByHand).train()
    form = gc.to_graph(net, latents())
    for training in (True, False, True):
        assert torch.equal(net.train(training)(*latents(4)), form.train(training)(*latents(4)))
        for name, value in net.named_buffers():
            assert torch.equal(value, form.get_buffer(name)), name
    masked = gc.wrap(net, latents(), form="graph")
    train(masked)
    small = masked.prune(gc.random_plan(masked.graph, 0.5))
    before = {n: b.clone() for n, b in small.named_buffers()}
    small.train()(*latents()).sum().backward()
    written = dict(net.named_buffers())
    assert not any(torch.equal(before[n], small.get_buffer(n)) for n in written)
    assert all(p.grad is not None for p in small.parameters())


def test_layers_of_a_graph_form_put_nothing_out() -> None:
    graph = gc.trace(build(View), latents(1), form="graph")
    with pytest.raises(GraphError, match="does not call its modules"):
        graph.kept(gc.random_plan(graph), "conv")


def test_constants_follow_the_device() -> None:
    form = gc.to_graph(build(Zeros), latents()).to("meta")
    assert form(latents(2)[0].to("meta")).device.type == "meta"


def test_cut_follows_the_graph_and_the_optimizer() -> None:
    net = build(View)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    net(*latents()).sum().backward()
    optimizer.step()
    before = {n: p.clone() for n, p in net.state_dict().items()}
    graph = gc.trace(net, latents(), form="graph")
    small = gc.cut(net, gc.random_plan(graph, 0.5), graph=graph, optimizers=[optimizer])
    assert isinstance(small, torch.fx.GraphModule)
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in small.parameters()}
    small(*latents()).sum().backward()
    optimizer.step()
    assert all(torch.equal(before[n], v) for n, v in net.state_dict().items())


def test_graph_form_is_an_ordinary_module() -> None:
    net = build(Zeros).eval()
    form = gc.to_graph(net, latents(1))
    assert gc.to_graph(form, latents(1)) is form
    twin = copy.deepcopy(form)
    with torch.no_grad():
        twin.last.weight.zero_()
    assert torch.equal(form(*latents(4)), net(*latents(4)))
    assert not torch.equal(twin(*latents(4)), net(*latents(4)))
    assert form.double()(latents()[0].double()).dtype == torch.float64
    again = torch.export.export(form.float(), latents(2)).module()
    assert torch.allclose(again(*latents(2)), net(*latents(2)))
    with pytest.raises(TypeError, match=r"gancompress\.save"):
        pickle.dumps(form)
    # A user's own change of the graph concerns this object alone.
    node = next(n for n in twin.graph.nodes if n.name == "tanh")
    node.target = torch.ops.aten.relu.default
    twin.recompile()
    assert twin(*latents(2)).min() >= 0
    assert torch.equal(form(*latents(4)), net(*latents(4)))


def test_unwrap_takes_every_gate_off() -> None:
    form = gc.to_graph(build(Merged), latents())
    before, want = form.state_dict(), form.eval()(*latents())
    masked = gc.wrap(form, latents())
    assert masked.generator is form
    masked.apply(gc.random_plan(masked.graph))
    assert not torch.equal(form(*latents()), want)
    masked.unwrap()
    assert list(form.state_dict()) == list(before)
    assert torch.equal(form(*latents()), want)


class Noisy(Motif):
    """Noise for each channel: the draw fixes the number of channels."""

    def body(self, x: Tensor) -> Tensor:
        return x + torch.randn(x.shape[0], 16, 1, 1)


def test_random_draws_per_channel_keep_their_channels() -> None:
    rows = {r.layer: r for r in gc.inspect(build(Noisy), latents(), form="graph").rows}
    assert rows["first"].status == "prunable"
    assert rows["conv"].status == "kept"
    assert "random" in rows["conv"].reason
    assert "in forward" in rows["conv"].reason


def test_inputs_that_the_graph_was_not_made_for_are_refused() -> None:
    form = gc.to_graph(build(Rich), *rich_inputs(2))
    args, kwargs = rich_inputs(3)
    for change, match in (
        ({"scale": 0.7}, r"scale=0\.5, not 0\.7"),
        ({"y": torch.ones(3)}, "'y' as an integer tensor"),
        ({"extra": {"a": torch.ones(3, 4)}}, r"shape \(batch, 2\)"),
    ):
        with pytest.raises(GraphError, match=match):
            form(*args, **{**kwargs, **change})


class EqualRate:
    """The pre-hook of many StyleGANs: a weight scaled by a number taken from its own shape."""

    def __call__(self, module: nn.Module, args: object) -> None:
        weight = module.raw
        assert isinstance(weight, nn.Parameter)
        fan = weight.data.size(1) * weight.data[0][0].numel()
        module.weight = weight * (2 / fan) ** 0.5


def equal_rate(conv: nn.Conv2d) -> nn.Conv2d:
    raw = conv.weight.data
    del conv._parameters["weight"]
    conv.register_parameter("raw", nn.Parameter(raw))
    conv.register_forward_pre_hook(EqualRate())
    return conv


def test_weights_that_hooks_scale_by_their_shape() -> None:
    net = nn.Sequential(
        equal_rate(nn.Conv2d(3, 8, 3, padding=1)), nn.ReLU(), equal_rate(nn.Conv2d(8, 3, 3))
    )
    x = torch.randn(2, 3, 6, 6)
    rows = gc.inspect(net, x)
    assert "computes with a number taken from a channel count" in rows.rows[0].reason
    assert "test_graph_form.py" in rows.rows[0].reason
    assert 'form="graph"' in str(rows)
    with pytest.raises(GraphError, match='no channel of Sequential can go.*form="graph"'):
        gc.wrap(net, x)

    masked = gc.wrap(net, x, form="graph")
    assert list(masked.graph.widths.values()) == [8]
    plan = gc.random_plan(masked.graph, 0.5, 0)
    masked.apply(plan)
    small = masked.prune(plan)
    assert gc.verify(masked.generator, small, x).max_error <= 1e-9
    assert "weight" not in vars(net[0])
