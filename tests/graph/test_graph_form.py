"""Graph form: what Python's literal sizes keep whole becomes prunable, exact and trainable."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gancompress as gc
from gancompress.errors import CheckpointError, ConfigError, GraphError
from gancompress.graph.form import GraphForm
from gancompress.wrapping import Masked

Z = 6


class Motif(nn.Module):
    """Latent to 16 channels, a motif with sizes in it, and an image out."""

    inside = 16

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(Z, 16 * 9)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(self.inside, 3, 1)

    def start(self, z: Tensor) -> Tensor:
        return self.first(z).unflatten(1, (-1, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        return x

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(self.start(z))))
        return torch.tanh(self.last(self.body(x)))


class View(Motif):
    factor = 1.0

    def start(self, z: Tensor) -> Tensor:
        return self.first(z).view(-1, 16, 3, 3) * torch.tensor(self.factor)


class Doubled(View):
    """Differs in the value of a constant only."""

    factor = 2.0


class Split(Motif):
    inside = 8

    def body(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, 8, dim=1)
        return a * torch.sigmoid(b)


class SplitUnevenly(Motif):
    inside = 20

    def body(self, x: Tensor) -> Tensor:
        a, b = x.split([12, 4], dim=1)
        return torch.cat([a, b * 2, b], 1)


class Asserted(Motif):
    def body(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (16, 3, 3), "sixteen channels"
        return x


class Heads(Motif):
    def body(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        q = x.view(b, 4, 4, 9)
        weights = torch.softmax(q @ q.transpose(2, 3) / 2, -1)
        return (weights @ q).reshape(b, 16, 3, 3)


class Zeros(Motif):
    inside = 32

    def body(self, x: Tensor) -> Tensor:
        return torch.cat([x + torch.zeros(x.shape[0], 16, 3, 3), x + torch.ones(16, 1, 1)], 1)


class Slice(Motif):
    inside = 12

    def body(self, x: Tensor) -> Tensor:
        return x[:, :12] * 2


class SliceTail(Motif):
    inside = 4

    def body(self, x: Tensor) -> Tensor:
        return x[:, -4:] * torch.tensor(2.0)


class Narrow(Motif):
    inside = 8

    def body(self, x: Tensor) -> Tensor:
        return x.narrow(1, 4, 8)


class Repeat(Motif):
    inside = 32

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, 1, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        b = self.bias.repeat(x.shape[0], 16, 1, 1)
        return (x + b + self.bias.expand(x.shape[0], 16, 3, 3)).repeat(1, 2, 1, 1)


class Merged(Motif):
    """Per-sample weights folded into the batch, as in modulated convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        w = self.weight[None] * x.mean((2, 3)).view(b, 1, 16, 1, 1)
        w = w.reshape(b * 16, 16, 3, 3)
        return F.conv2d(x.reshape(1, b * 16, 3, 3), w, padding=1, groups=b).view(b, 16, 3, 3)


class Grouped(Motif):
    """Numbers of groups, written as literals."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Parameter(torch.randn(16, 1, 3, 3))

    def body(self, x: Tensor) -> Tensor:
        return F.group_norm(F.conv2d(x, self.depth, padding=1, groups=16), 8)


MOTIFS = [
    View, Split, SplitUnevenly, Asserted, Heads, Zeros, Slice, SliceTail, Narrow, Repeat, Merged,
    Grouped,
]  # fmt: skip
LAYERS = ("first", "conv", "norm")


def build(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    net = kind()
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_()
                m.running_mean.normal_()  # type: ignore[union-attr]
                m.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return net


def latents(n: int = 3) -> tuple[Tensor]:
    return (torch.randn(n, Z, generator=torch.Generator().manual_seed(n)),)


def train(masked: Masked, steps: int = 3) -> None:
    """Adversary-free training: every parameter and every mask moves."""
    net = masked.generator.train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(steps):
        loss = (net(*latents(4 + step)) - 0.3).square().mean() + 1e-3 * masked.penalty()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
        optimizer.step()
    net.eval()


@pytest.mark.parametrize("kind", MOTIFS)
def test_literals_pin_the_module_and_not_the_graph(kind: type[nn.Module]) -> None:
    net = build(kind).eval()
    rows = gc.inspect(net, latents()).rows
    pinned = {r.layer: r.reason for r in rows if r.status != "prunable" and r.layer in LAYERS}
    assert pinned
    assert all("test_graph_form.py" in reason for reason in pinned.values())

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


class Branching(Motif):
    def body(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class OnlyInTraining(Motif):
    def body(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


class Looping(Motif):
    def body(self, x: Tensor) -> Tensor:
        return torch.stack([row * (i + 1) for i, row in enumerate(x)])


class Drawing(Motif):
    def body(self, x: Tensor) -> Tensor:
        return x * (1 + random.random())


class Counting(Motif):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def body(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class NormAtTheRoot(Motif):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 1, 1))
        parametrizations.weight_norm(self, "weight")

    def body(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (Branching, r"test_graph_form\.py:\d+ in body.*does not depend on the values"),
        (OnlyInTraining, r"train\(\) than in eval\(\) at test_graph_form\.py:\d+ in forward"),
        (Looping, "fixes the batch size of Looping at 3"),
        (Drawing, "forward of Drawing changes Python's random state"),
        (Counting, "forward of Counting changes self.calls"),
        (NormAtTheRoot, "a parameter of NormAtTheRoot itself is parametrized"),
    ],
)
def test_what_has_no_graph_form_is_refused_by_name(kind: type[nn.Module], match: str) -> None:
    net = build(kind)
    with pytest.raises(GraphError, match=match):
        gc.wrap(net, latents(), form="graph")
    gc.trace(net, latents())


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="form='grpah' is not one of module, graph"):
        gc.trace(build(View), latents(), form="grpah")
    with pytest.raises(ConfigError, match="needs example inputs"):
        gc.wrap(build(View), form="graph")


def test_saved_graphs_load_onto_the_same_graph_only(tmp_path: Path) -> None:
    graph = gc.trace(build(View), latents(), form="graph")
    plan = gc.random_plan(graph)
    small = gc.cut(build(View), plan, graph=graph)
    gc.save(tmp_path / "small", small, plan=plan)
    back = gc.load(View, tmp_path / "small")
    assert torch.equal(back.eval()(*latents(5)), small.eval()(*latents(5)))
    with pytest.raises(CheckpointError, match="makes another one of the Doubled"):
        gc.load(Doubled, tmp_path / "small")
    with pytest.raises(CheckpointError, match="no graph form of what was built"):
        gc.load(Branching, tmp_path / "small")
