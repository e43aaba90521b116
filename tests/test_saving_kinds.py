"""What save() takes, load() gives back, every kind of cut, tensor and network; or it refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import gancompress as gc
from gancompress.errors import CheckpointError, StorageError
from gancompress.storage import read_folder


class Side(nn.Module):
    """A chain of layers, one that nobody reads, and a scale that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        self.side = nn.Linear(12, 10)
        self.register_buffer("scale", torch.rand(12), persistent=False)
        self.shift = torch.rand(2)

    def forward(self, z: Tensor) -> Tensor:
        h = self.a(z).relu() * self.scale
        self.side(h)
        return self.c(self.b(h).relu()) + self.shift


def latents(n: int = 4) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(5))


def build() -> nn.Module:
    return Side().eval()


def wrapped(**options: Any) -> Any:
    torch.manual_seed(2)
    return gc.wrap(build(), latents(), **options)


def comes_back(small: nn.Module, path: Path, make: Callable[[], nn.Module] = build) -> nn.Module:
    back = gc.load(make, path)
    small = copy.deepcopy(small).eval()
    with torch.no_grad():
        assert torch.equal(back(latents()), small(latents()))
    return back


# -- plans -----------------------------------------------------------------------------------------


def test_a_pruned_network_knows_its_plan(tmp_path: Path) -> None:
    masked = wrapped(target="params=2x")
    masked.advance(1.0)
    small = masked.prune()
    comes_back(small, gc.save(tmp_path / "m", small))
    comes_back(small, gc.save(tmp_path / "n", copy.deepcopy(small)))
    comes_back(small, gc.save(tmp_path / "o", small, plan=gc.graph.plan.Plan({})))


def test_the_plan_of_another_cut_is_refused(tmp_path: Path) -> None:
    masked = wrapped()
    plan = gc.random_plan(masked.graph, keep=0.5)
    assert "side.weight" in plan.tensors
    small = masked.prune(plan)
    with pytest.raises(CheckpointError, match=r"differs at .*leave plan out"):
        gc.save(tmp_path / "m", small, plan=gc.random_plan(masked.graph, keep=0.5, seed=1))
    with pytest.raises(CheckpointError, match="the plan does not fit the module"):
        gc.save(tmp_path / "m", small, plan=masked.whole_plan())
    assert not (tmp_path / "m").exists()
    back = comes_back(small, gc.save(tmp_path / "m", small, plan=plan))
    assert torch.equal(back.side.weight, small.side.weight)


def live(copies: bool = False) -> tuple[Any, nn.Module, list[nn.Module]]:
    """Cut twice while masks learn, and once at the end."""
    masked = wrapped(target="params=3x")
    ema = [copy.deepcopy(masked.generator)] if copies else []
    for progress in (0.2, 0.5):
        masked.advance(progress)
        assert masked.shrink(copies=ema) is not None
    masked.advance(1.0)
    return masked, masked.prune(), ema


def test_after_live_cuts_each_plan_leads_back(tmp_path: Path) -> None:
    masked, small, _ = live()
    assert masked.plan().tensors, "the last cut is one of its own"
    for k, plan in enumerate((None, masked.whole_plan(), masked.plan())):
        comes_back(small, gc.save(tmp_path / str(k), small, plan=plan))
    with pytest.raises(CheckpointError, match="Pass the plan of the whole cut"):
        gc.save(tmp_path / "n", small, plan=masked.history)


def test_copies_and_the_unwrapped_generator_know_their_cuts(tmp_path: Path) -> None:
    masked, _, ema = live(copies=True)
    masked.shrink(copies=ema)
    net = masked.unwrap()
    comes_back(net, gc.save(tmp_path / "net", net))
    from gancompress.masks.attach import detach

    detach(ema[0])
    comes_back(ema[0], gc.save(tmp_path / "ema", ema[0]))


def test_what_was_loaded_is_cut_further(tmp_path: Path) -> None:
    first = gc.save(tmp_path / "first", live()[1])
    again = gc.wrap(gc.load(build, first), latents(), target="params=1.5x")
    again.advance(1.0)
    small = again.prune()
    for k, plan in enumerate((None, again.whole_plan())):
        path = gc.save(tmp_path / str(k), small, plan=plan)
        comes_back(small, path)
        comes_back(small, path, lambda: gc.load(build, first))
    comes_back(gc.load(build, first), gc.save(tmp_path / "same", gc.load(build, first)))


def test_a_pruned_part_of_a_network(tmp_path: Path) -> None:
    masked = wrapped(target="params=2x")
    masked.advance(1.0)
    whole = nn.Sequential(masked.prune(), nn.Tanh(), nn.Linear(2, 2))
    torch.manual_seed(0)
    make = lambda: nn.Sequential(build(), nn.Tanh(), nn.Linear(2, 2))  # noqa: E731
    comes_back(whole, gc.save(tmp_path / "m", whole), make)


def test_another_size_is_named_before_anything_is_cut(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    small = gc.wrap(net, latents(), target="params=2x")
    small.advance(1.0)
    path = gc.save(tmp_path / "m", small.prune())
    with pytest.raises(CheckpointError, match=r"'0.weight' is \(20, 6\), it was \(16, 6\) before"):
        gc.load(lambda: nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 2)), path)


def test_a_pickle_of_the_user_does_not_need_gancompress() -> None:
    small = live()[1].a
    parent = nn.Sequential(small)
    vars(parent)["_gancompress_cuts"] = vars(live()[1])["_gancompress_cuts"]
    assert b"cut_record" not in pickle.dumps(parent)
    assert isinstance(pickle.loads(pickle.dumps(parent)), nn.Sequential)


def test_it_comes_back_in_eval_mode(tmp_path: Path) -> None:
    make = lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout())  # noqa: E731
    net = make().train()
    net(latents(9))
    back = gc.load(make, gc.save(tmp_path / "m", net))
    assert not any(m.training for m in back.modules())
    with torch.no_grad():
        assert torch.equal(back(latents()), net.eval()(latents()))


def test_shells_are_taken_off(tmp_path: Path) -> None:
    small = live()[1]
    path = gc.save(tmp_path / "m", nn.DataParallel(small))
    comes_back(small, path)
    comes_back(small, path, lambda: nn.DataParallel(build()))


# -- tensors ---------------------------------------------------------------------------------------

TENSORS = {
    "number": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
    "truth": torch.tensor([True, False]),
    "bfloat": torch.arange(3).bfloat16(),
    "half": torch.arange(3).half(),
    "eight": torch.arange(4.0).to(torch.float8_e4m3fn),
    "double": torch.arange(3).double(),
    "bytes": torch.arange(3, dtype=torch.uint8),
    "long": torch.tensor(2**60),
    "sixteen": torch.tensor([0, 1, 65535], dtype=torch.uint16),
    "complex": torch.tensor([1 + 2j]),
    "wide complex": torch.tensor([1 + 2j], dtype=torch.complex128),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "turned": torch.arange(6.0).view(2, 3).t(),
    "view": torch.arange(9.0)[::2],
    "expanded": torch.ones(1).expand(5),
    "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
    "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("name", TENSORS)
def test_every_kind_of_tensor(tmp_path: Path, name: str, persistent: bool) -> None:
    def make(value: Tensor) -> nn.Module:
        net = nn.Linear(2, 2)
        net.register_buffer("x", value, persistent=persistent)
        return net

    value = TENSORS[name]
    path = gc.save(tmp_path / "m", make(value))
    fresh = torch.zeros_like(value) if name != "expanded" else torch.zeros(1).expand(5)
    back = gc.load(lambda: make(fresh), path).x
    assert back.dtype == value.dtype
    assert back.shape == value.shape
    wide = torch.complex128 if value.is_complex() else torch.float64
    assert torch.equal(back.to(wide).nan_to_num(7.0), value.to(wide).nan_to_num(7.0))


@pytest.mark.parametrize("name", ["a b", "é", "a/b", 'quote"', "line\nbreak", "0", "__x__"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    def make() -> nn.Module:
        net = nn.Module()
        net.register_buffer(name, torch.rand(3))
        return net

    net = make()
    back = gc.load(make, gc.save(tmp_path / "m", net))
    assert torch.equal(back.get_buffer(name), net.get_buffer(name))


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("__metadata__", torch.ones(2), "At fault: '__metadata__'"),
        ("x", torch.eye(2).to_sparse(), "'x' is no plain tensor"),
        ("x", torch.ones(2, device="meta"), "'x' is on the meta device"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(
    tmp_path: Path, name: str, value: Tensor, cause: str
) -> None:
    net = nn.Linear(2, 2)
    net.register_buffer(name, value)
    with pytest.raises(CheckpointError, match=cause):
        gc.save(tmp_path / "m", net)
    assert not list(tmp_path.iterdir())


def test_a_lazy_module(tmp_path: Path) -> None:
    make = lambda: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))  # noqa: E731
    with pytest.raises(CheckpointError, match="run the module once"):
        gc.save(tmp_path / "m", make())
    net = make().eval()
    net(latents())
    comes_back(net, gc.save(tmp_path / "m", net), make)
    masked = gc.wrap(net, latents(), target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    comes_back(small, gc.save(tmp_path / "n", small), make)


class Late(nn.Module):
    """Makes a buffer in its first forward, and fills one that was empty."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 2)
        self.register_buffer("gain", None)

    def forward(self, z: Tensor) -> Tensor:
        if not hasattr(self, "shift"):
            self.register_buffer("shift", torch.rand(8))
        if self.gain is None:
            self.gain = torch.rand(8)
        return self.out(self.inner(z).relu() * self.gain + self.shift)


def test_buffers_made_in_the_first_forward(tmp_path: Path) -> None:
    net = Late().eval()
    net(latents())
    comes_back(net, gc.save(tmp_path / "m", net), Late)
    masked = gc.wrap(net, latents(), target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    assert small.shift.numel() < 8
    comes_back(small, gc.save(tmp_path / "n", small), Late)


def tied(share: bool) -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    if share:
        net[1].weight = net[0].weight
    return net.eval()


def test_ties(tmp_path: Path) -> None:
    both = gc.save(tmp_path / "tied", tied(True))
    back = gc.load(lambda: tied(True), both)
    assert back[0].weight is back[1].weight
    gc.load(lambda: tied(False), both)
    loose = gc.save(tmp_path / "loose", tied(False))
    with pytest.raises(CheckpointError, match="shares it with another tensor"):
        gc.load(lambda: tied(True), loose)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_norms_of_a_cut_network(tmp_path: Path, norm: Callable[[nn.Module], nn.Module]) -> None:
    make = lambda: nn.Sequential(norm(nn.Linear(6, 12)), nn.ReLU(), norm(nn.Linear(12, 2))).eval()  # noqa: E731
    masked = gc.wrap(make(), latents(), target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    comes_back(small, gc.save(tmp_path / "m", small), make)


def test_a_graph_form_that_was_cut(tmp_path: Path) -> None:
    masked = gc.wrap(build(), latents(), target="params=2x", form="graph")
    masked.advance(1.0)
    small = masked.prune()
    comes_back(small, gc.save(tmp_path / "m", small))
    comes_back(small, gc.save(tmp_path / "n", small, plan=masked.whole_plan()))


def test_only_a_saved_generator_is_replaced(tmp_path: Path) -> None:
    path = gc.save(tmp_path / "m", tied(False))
    gc.save(path, tied(True), replace=True)
    assert "model.safetensors" in read_folder(path)[1]
    (path / "mine.txt").write_text("do not delete")
    for place in (path, tmp_path):
        with pytest.raises(StorageError, match="is not replaced"):
            gc.save(place, tied(True), replace=True)
    assert (path / "mine.txt").read_text() == "do not delete"


class Listed(Side):
    """Keeps the constants that decide its output in lists, dicts and a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.noises = [torch.rand(2), torch.rand(2)]
        self.tables = {"low band": (torch.rand(2), {"a.b]": torch.rand(2)}), 3: torch.rand(2)}
        self.weights = [self.a.weight, self.scale]

    def forward(self, z: Tensor) -> Tensor:
        low, deep = self.tables["low band"]
        return super().forward(z) + self.noises[1] * low + deep["a.b]"] + self.tables[3]


def test_constants_in_lists_and_dicts_come_back(tmp_path: Path) -> None:
    torch.manual_seed(2)
    masked = gc.wrap(Listed().eval(), latents(), target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    gc.save(tmp_path / "small", small)
    torch.manual_seed(3)  # other constants than those that were saved
    back = comes_back(small, tmp_path / "small", lambda: Listed().eval())
    assert isinstance(back.tables["low band"], tuple)
    extras = read_folder(tmp_path / "small")[1]["extras.safetensors"]
    assert b"noises[1]" in extras
    assert b"weights[0]" not in extras
