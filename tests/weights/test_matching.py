"""Published weights and a network: what has one reading is loaded and said, the rest is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm, weight_norm
from torch.nn.utils.parametrizations import spectral_norm as new_spectral_norm
from torch.nn.utils.parametrizations import weight_norm as new_weight_norm

from gancompress.errors import CheckpointError
from gancompress.weights.matching import fit_weights
from gancompress.weights.reading import descend, read_weight_file

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")


class Net(nn.Module):
    def __init__(self, norm: Callable[[nn.Module], nn.Module] = nn.Module.eval) -> None:
        super().__init__()
        self.first = norm(nn.Conv2d(3, 6, 3))
        self.bn = nn.BatchNorm2d(6)
        self.inst = nn.InstanceNorm2d(6, affine=True)
        self.last = norm(nn.ConvTranspose2d(6, 2, 3))
        self.register_buffer("taps", torch.ones(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inst(self.bn(self.first(x)).relu()))


def trained(norm: Callable[[nn.Module], nn.Module] = nn.Module.eval) -> Net:
    torch.manual_seed(1)
    net = Net(norm).train()
    net(torch.randn(4, 3, 8, 8))
    return net.eval()


def loaded(value: Any, net: nn.Module | None = None) -> tuple[nn.Module, str]:
    net = Net() if net is None else net
    state, notes = fit_weights(net, value, "w.pth")
    net.load_state_dict(state)
    return net.eval(), "; ".join(notes)


def equal(one: nn.Module, two: nn.Module) -> bool:
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(one(x), two(x))


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "generator.", "netG.", "G.", "model.", "x.y.z."],
)
def test_prefixes_are_taken_off_and_said(prefix: str) -> None:
    net = trained()
    found, said = loaded({prefix + n: t for n, t in net.state_dict().items()})
    assert equal(found, net)
    assert all(part in said for part in prefix.split(".") if part)


def test_a_shell_inside_of_names() -> None:
    net = nn.Sequential(trained())
    value = {n.replace("0.", "0.module.", 1): t for n, t in net.state_dict().items()}
    assert equal(loaded(value, nn.Sequential(Net()))[0], net)


def test_a_network_that_has_the_prefix_and_the_file_has_not() -> None:
    net = trained()
    found, said = loaded(net.state_dict(), nn.Sequential(Net()))
    assert equal(found, net)
    assert "put before" in said


@pytest.mark.parametrize("key", ["g_ema", "params_ema", "state_dict", "generator", "any"])
def test_tables_in_a_training_state(key: str) -> None:
    net = trained()
    optimizer = torch.optim.Adam(net.parameters())
    value = {"step": 3, key: net.state_dict(), "opt": optimizer.state_dict(), "d": {"w": Tensor()}}
    found, said = loaded(value)
    assert equal(found, net)
    assert repr(key) in said


def test_a_generator_beside_its_discriminator() -> None:
    net, other = trained(), nn.Linear(3, 3)
    value = {f"G.{n}": t for n, t in net.state_dict().items()}
    value |= {f"D.{n}": t for n, t in other.state_dict().items()}
    found, said = loaded({"epoch": 1, "state_dict": value})
    assert equal(found, net)
    assert "2 tensors of other networks left out" in said


def test_two_that_fit_are_a_question() -> None:
    one, two = trained().state_dict(), Net().state_dict()
    with pytest.raises(CheckpointError, match=r"Choose one: w\.pth:g, w\.pth:g_ema"):
        loaded({"g": one, "g_ema": two})
    assert equal(loaded({"g": one, "copy": dict(one)})[0], trained()), "equal ones are none"
    both = {**{f"g.{n}": t for n, t in one.items()}, **{f"e.{n}": t for n, t in two.items()}}
    with pytest.raises(CheckpointError, match="choose one: FILE:PREFIX"):
        loaded(both)


@pytest.mark.parametrize(
    ("old", "new"), [(weight_norm, new_weight_norm), (spectral_norm, new_spectral_norm)]
)
@pytest.mark.parametrize("prefix", ["", "module.", "netG."])
def test_norms_old_and_new(old: Any, new: Any, prefix: str) -> None:
    for there, here in ((old, new), (new, old)):
        net = trained(there)
        found, said = loaded({prefix + n: t for n, t in net.state_dict().items()}, Net(here))
        assert equal(found, net)
        assert "norms" in said


def test_norms_that_only_one_side_has_are_named() -> None:
    with pytest.raises(CheckpointError, match="file has spectral norm, the network none"):
        loaded(trained(spectral_norm).state_dict())
    with pytest.raises(CheckpointError, match="no weight or spectral norm, the network weight nor"):
        loaded(trained().state_dict(), Net(new_weight_norm))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"inst.running_mean": torch.ones(6), "inst.running_var": torch.ones(6)}, "InstanceNorm2d"),
        ({"inst.num_batches_tracked": torch.tensor(4)}, "num_batches_tracked"),
        ({"position_ids": torch.arange(4)}, "whole numbers"),
        ({"taps": torch.ones(3)}, "equal to the network's own"),
        ({"empty": torch.ones(0)}, "empty"),
    ],
)
def test_extras_that_change_nothing(extra: dict[str, Tensor], said: str) -> None:
    net = trained()
    found, notes = loaded({**net.state_dict(), **extra})
    assert equal(found, net)
    assert said in notes


def test_counters_that_are_missing_stay_as_they_are() -> None:
    net = trained()
    value = {n: t for n, t in net.state_dict().items() if "num_batches" not in n}
    found, notes = loaded(value)
    assert equal(found, net)
    assert "num_batches_tracked" in notes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_said(dtype: torch.dtype) -> None:
    net = trained().to(dtype)
    found, notes = loaded(net.state_dict())
    assert torch.equal(found.first.weight, net.first.weight.float())
    assert str(dtype).removeprefix("torch.") in notes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blur": torch.ones(3)}, r"1 unknown \(blur\)"),
        ({"taps": torch.zeros(3)}, r"1 unknown \(taps\)"),
        ({"first.bias": None}, r"1 missing \(first.bias\)"),
        ({"bn.running_var": None}, r"1 missing \(bn.running_var\)"),
        ({"last.bias": torch.ones(2, dtype=torch.int8)}, "file int8, network float32"),
        (
            {"last.weight": torch.ones(1), "first.weight": torch.ones(2)},
            r"first.weight: file \(2,\), network \(6, 3, 3, 3\), last.weight",
        ),
        ({"bn.bias": torch.full((6,), torch.inf)}, r"not finite in bn.bias \(NaN or infinity"),
        ({"first.weight": torch.full((6, 3, 3, 3), torch.nan)}, "not finite in first.weight"),
    ],
)
def test_misfits_are_named(change: dict[str, Any], said: str) -> None:
    value = {k: v for k, v in {**trained().state_dict(), **change}.items() if v is not None}
    with pytest.raises(CheckpointError, match=said):
        loaded(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([trained().state_dict()], "holds a list of 1"),
        (torch.ones(3), "holds a Tensor"),
        ({}, "is empty"),
        ({"step": 3}, "'step' is a int"),
        ({"g": {"a": 1}}, "'g' is a dict"),
    ],
)
def test_what_is_no_table(value: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        loaded(value)


class Gained(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))


def test_one_number_fits_whatever_its_shape() -> None:
    state = Gained().state_dict()
    state["gamma"] = torch.tensor(3.0)
    net, said = loaded(state, Gained())
    assert net.gamma.tolist() == [3.0]
    assert "single numbers in another shape (gamma)" in said
    state["gamma"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"gamma: file \(2,\), network \(1,\)"):
        loaded(state, Gained())


def test_networks_in_a_list_of_a_training_state() -> None:
    net, other = trained(), nn.Linear(2, 2)
    value = {"step": 3, "nets": [other.state_dict(), net.state_dict()], "lrs": [0.1, 0.2]}
    found, said = loaded(value)
    assert equal(found, net)
    assert "nets.1" in said
    value["nets"][0] = {n: t + 1 for n, t in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"Choose one: w.pth:nets.0, w.pth:nets.1"):
        loaded(value)
    chosen = descend(value, "nets.1", "w.pth")
    assert equal(loaded(chosen)[0], net)


def test_numpy_arrays_are_named_as_such(tmp_path: Path) -> None:
    torch.save({n: t.numpy() for n, t in trained().state_dict().items()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="NumPy array"):
        loaded(read_weight_file(tmp_path / "w.pth").value)
