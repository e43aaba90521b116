"""Exported files hold what the generator computes, at other sizes too; what cannot be is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc
from gancompress.deployment import writers
from gancompress.deployment.export import prepare
from gancompress.deployment.formats import read_formats, require_engines
from gancompress.deployment.program import trace_program
from gancompress.errors import ConfigError, DataError, GraphError, TargetError
from tests.tiny import Tiny, build, inputs, sequential


class Nested(nn.Module):
    """Pictures of any size, and a dict of styles, to a dict with a list in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.style = nn.Linear(5, 8)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor, style: dict[str, Tensor]) -> dict[str, Any]:
        h = self.norm(self.first(x)).relu() * self.style(style["w"])[:, :, None, None]
        return {"image": self.last(h), "maps": [h, F.avg_pool2d(h, 2)]}


class Noisy(nn.Module):
    def __init__(self, way: str = "randn") -> None:
        super().__init__()
        self.way = way
        self.body = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.way == "randn":
            y = y + torch.randn(len(y), 1, *y.shape[2:])
        if self.way == "normal_":
            y = y + torch.empty(len(y), 1, *y.shape[2:]).normal_(2.0, std=3.0)
        if self.way == "bernoulli":
            y = y + torch.bernoulli(y.sigmoid())
        return y


class Odd(nn.Module):
    """Things that no exporter can do, one at a time."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.body = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.what == "branch" and y.sum() > 0:
            y = y + 1
        if self.what == "batch":
            y = torch.stack([row * i for i, row in enumerate(y)])
        if self.what == "numpy":
            y = y + torch.from_numpy(y.detach().numpy())
        if self.what == "operator":
            y = torch.linalg.matrix_exp(y)
        return y


def settled(net: nn.Module) -> nn.Module:
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.normal_(m.running_mean)
    return net.eval()


def needs_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra gancompress[onnx] is not installed")


def test_nested_inputs_and_outputs_at_other_sizes_in_several_formats(tmp_path: Path) -> None:
    needs_onnx()
    net = settled(Nested())
    example = (torch.randn(2, 3, 6, 8), {"w": torch.randn(2, 5)})
    made = gc.export(
        net, example, tmp_path / "n", to="onnx,torch.export,safetensors", dynamic=["x=0,2,3"]
    )
    assert [e.file.name for e in made] == ["n.onnx", "n.pt2", "n.safetensors"]
    assert {f.name for f in tmp_path.iterdir()} == {"n.onnx", "n.pt2", "n.safetensors"}
    for one in made[:2]:
        assert one.max_error <= 1e-5
        assert one.inputs == ("x", "style.w")
        assert one.outputs == ("image", "maps.0", "maps.1")
        assert {"batch 1", "batch 8", "twice", "1.5 times", "twice by 1"} <= set(one.checked)
        assert one.refused == ()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(made[0].file))
    assert [i.shape for i in session.get_inputs()] == [["batch", 3, "x_2", "x_3"], ["batch", 5]]
    x, w = torch.randn(3, 3, 10, 4), torch.randn(3, 5)
    found = session.run(["maps.1"], {"x": x.numpy(), "style.w": w.numpy()})[0]
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(found), net(x, {"w": w})["maps"][1], atol=1e-5)
        again = torch.export.load(str(made[1].file)).module()(x, w)
        assert torch.allclose(again["image"], net(x, {"w": w})["image"], atol=1e-5)


@pytest.mark.parametrize("kind", ["spectral_old", "spectral_new", "weight_old", "weight_new"])
def test_norms_go_into_weights(kind: str) -> None:
    net = nn.Sequential(build(kind), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    settled(net)
    call = prepare(net, inputs(kind, 2), None, None, None)
    program = trace_program(call.flat, call.names, call.example, call.dims, folding=True)
    operators = [str(n.target) for n in program.exported.graph.nodes if n.op == "call_function"]
    # The two norms of Tiny come before their convolutions; the last one came behind.
    assert program.folded["batch_norms"] == 1
    assert sum("batch_norm" in o for o in operators) == 2
    of_norms = ("aten.mv", "aten.dot", "aten.div", "aten._weight_norm", "aten.norm")
    assert not any(o.startswith(of_norms) for o in operators)
    assert not any("original" in n or "_orig" in n for n in program.exported.state_dict)
    for variant in call.variants:
        with torch.no_grad():
            gap = program.graph()(*variant.tensors) - call.wanted[variant.name][0]
        assert float(gap.abs().max()) <= 1e-5


def test_the_generator_is_not_touched(tmp_path: Path) -> None:
    net = build("spectral_old").train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    gc.export(net, inputs("plain"), tmp_path / "n.pt2", to="torch.export")
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [len(m._forward_pre_hooks) for m in net.children()] == [1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize("way", ["randn", "normal_"])
def test_noise_becomes_an_input_or_a_constant(way: str, tmp_path: Path) -> None:
    net, x = Noisy(way).eval(), torch.randn(2, 3, 6, 6)
    text = r"draws .* noise at test_export.py:\d+ in forward.*--noise input"
    with pytest.raises(ConfigError, match=text):
        gc.export(net, x, tmp_path / "n.pt2", to="torch.export")
    free = ["x=0,2,3"]
    (made,) = gc.export(net, x, tmp_path / "n.pt2", to="torch.export", noise="input", dynamic=free)
    assert made.inputs == ("x", "noise_0")
    run = torch.export.load(str(made.file)).module()
    y, noise = torch.randn(3, 3, 9, 5), torch.randn(3, 1, 9, 5)
    shift = noise if way == "randn" else noise * 3 + 2
    with torch.no_grad():
        assert torch.allclose(run(y, noise), net.body(y) + shift, atol=1e-5)
    with pytest.raises(ConfigError, match="--noise input, or only the batch"):
        gc.export(net, x, tmp_path / "f.pt2", to="torch.export", noise="fixed", dynamic=free)
    (made,) = gc.export(net, x, tmp_path / "f.pt2", to="torch.export", noise="fixed")
    assert made.inputs == ("x",)
    run, y = torch.export.load(str(made.file)).module(), torch.randn(5, 3, 6, 6)
    with torch.no_grad():
        added = run(y) - net.body(y)
    assert torch.allclose(added, added[:1, :1].expand_as(added), atol=1e-4)
    assert float(added.std()) > 0.1


def test_what_cannot_be_expressed_is_named_in_one_line(tmp_path: Path) -> None:
    needs_onnx()
    x, out = torch.randn(2, 3, 4, 4), tmp_path / "o"
    line = r"at test_export.py:\d+ in forward"
    with pytest.raises(GraphError, match=rf"takes a number out of a tensor.* {line}") as branch:
        gc.export(Odd("branch"), x, out)
    with pytest.raises(GraphError, match=rf"leaves torch for NumPy {line}"):
        gc.export(Odd("numpy"), x, out)
    with pytest.raises(GraphError, match=r"fixes dimension 0 of x.*--dynamic 'x=") as batch:
        gc.export(Odd("batch"), x, out)
    with pytest.raises(
        GraphError, match=rf"no operator for aten.linalg_matrix_exp.* {line}"
    ) as operator:
        gc.export(Odd("operator"), x, out)
    with pytest.raises(GraphError, match=r"draws numbers by aten.bernoulli.* at test_export.py"):
        gc.export(Noisy("bernoulli").eval(), x, out)
    assert not any("\n" in str(e.value) for e in (branch, batch, operator))
    assert not list(tmp_path.iterdir())
    gc.export(Odd("batch"), x, tmp_path / "b.pt2", to="torch.export", dynamic=["x="])
    gc.export(Odd("operator"), x, tmp_path / "p.pt2", to="torch.export")


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(program: Any, file: Path) -> None:
        wrong = torch.export.export(sequential().eval(), (torch.randn(2, 3, 5, 5),))
        torch.export.save(wrong, str(file))

    monkeypatch.setitem(writers._WRITERS, "torch.export", other)
    with pytest.raises(TargetError, match="No file was written"):
        gc.export(build("sequential"), inputs("sequential", 2), tmp_path / "s.pt2",
                  to="torch.export", dynamic=["none"])  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        ({"to": "onx"}, ConfigError, "no format 'onx'. Did you mean 'onnx'"),
        ({"to": ","}, ConfigError, "names no format"),
        ({"dynamic": ["y=0"]}, ConfigError, "no input 'y'. Did you mean 'z'|Known: z"),
        ({"dynamic": ["z=2"]}, ConfigError, r"z has shape \(2, 6\) and no dimension '2'"),
        ({"dynamic": ["z"]}, ConfigError, "is not NAME=0,2,3"),
        ({"dynamic": ["none", "z=0"]}, ConfigError, "leave the others out"),
        ({"dynamic": ["z=0", "z=1"]}, ConfigError, "names z twice"),
        ({"dynamic": ["z=1"]}, DataError, "takes no other size than the example's"),
        ({"noise": "off"}, ConfigError, "--noise 'off' is not one of"),
    ],
)
def test_bad_words(words: dict[str, Any], kind: type, text: str, tmp_path: Path) -> None:
    options = {"to": "torch.export", **words}
    with pytest.raises(kind, match=text):
        gc.export(Tiny().eval(), inputs("plain", 2), tmp_path / "t.pt2", **options)
    assert not list(tmp_path.iterdir())


def test_names_of_files(tmp_path: Path) -> None:
    x = inputs("sequential", 2)
    (tmp_path / "t.safetensors").touch()
    for out, to, text in (
        ("t", "torch.export,safetensors", "t.safetensors exists"),
        ("u.pt2", "torch.export,safetensors", "leave the suffix out"),
        ("u.pth", "torch.export", "ends in .pt2"),
    ):
        with pytest.raises(ConfigError, match=text):
            gc.export(sequential(), x, tmp_path / out, to=to)


def test_everything_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = __import__("sys").modules
    for package in ("onnxruntime", "torchao"):
        monkeypatch.setitem(modules, package, None)
    monkeypatch.setattr("gancompress.deployment.formats._no_compiler", lambda: "none found")
    with pytest.raises(ConfigError) as error:
        require_engines(read_formats("onnx,aoti,safetensors"), int8=True)
    for part in ("[onnx]", "[int8]", "C++ compiler: none found", "safetensors holds no int8"):
        assert part in str(error.value)


@pytest.mark.slow
def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    require_engines(read_formats("aoti"))
    net = settled(Nested())
    example = (torch.randn(2, 3, 6, 8), {"w": torch.randn(2, 5)})
    (made,) = gc.export(net, example, tmp_path / "n.aoti.pt2", to="aoti", dynamic=["x=0,2,3"])
    assert made.max_error <= 1e-4
    assert "twice" in made.checked


class Sound(nn.Module):
    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 1, 4, 2, 1)
        self.scale = nn.Parameter(torch.ones(16)) if fixed else None

    def forward(self, mel: Tensor) -> Tensor:
        return self.up(mel if self.scale is None else mel * self.scale).tanh()


@pytest.mark.parametrize("fixed", [False, True])
def test_other_lengths_are_free_where_the_generator_takes_them(fixed: bool, tmp_path: Path) -> None:
    net = Sound(fixed).eval()
    file = tmp_path / "sound.pt2"
    (done,) = gc.export(net, (torch.randn(2, 4, 16),), file, to="torch.export")
    assert ("twice" in done.checked) is not fixed
    opened = torch.export.load(file).module()
    mel = torch.randn(3, 4, 16 if fixed else 27)
    assert torch.allclose(opened(mel), net(mel), atol=1e-5)
