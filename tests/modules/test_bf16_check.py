"""Convolutions that bf16 gets wrong are found by kind, at the widths that a cut may lead to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gancompress.modules import bf16_check
from gancompress.modules.bf16_check import wrong_in_bf16
from gancompress.training.arithmetic import trusted_bf16

CPU = torch.device("cpu")
LAYERS = [
    nn.Conv1d(24, 16, 5, stride=2), nn.Conv2d(100, 3, 3, padding=1), nn.Conv2d(6, 6, 3, groups=3),
    nn.ConvTranspose1d(24, 12, 8, 4, 2), nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=2),
    nn.ConvTranspose3d(4, 2, 3, stride=2, output_padding=1), nn.Conv2d(4, 4, 3, padding="same"),
]  # fmt: skip
RIGHT = bf16_check._call


def only_rounded(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """What a good kernel does: products in bf16, sums in float32, on any machine."""
    if torch.is_autocast_enabled("cpu"):
        x, weight = x + (x.bfloat16().float() - x).detach(), weight
    with torch.autocast("cpu", enabled=False):
        return RIGHT(layer, x, weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_rounding_is_no_fault(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_check, "_call", only_rounded)
    before = torch.get_rng_state()
    assert wrong_in_bf16([nn.Sequential(layer)], CPU) == ""
    assert torch.equal(torch.get_rng_state(), before)


class Wrong(torch.autograd.Function):
    """Passes on, with a gradient of another direction."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *grads):
        return grads[0].flip(0)


@pytest.mark.parametrize("where", ["output", "gradient of the input"])
@pytest.mark.parametrize("narrow", [False, True])
def test_a_wrong_kernel_is_named(where: str, narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
        bad = torch.is_autocast_enabled("cpu") and (x.shape[1] == 12) == narrow
        if bad and where != "output":
            x = Wrong.apply(x)
        y = only_rounded(layer, x, weight)
        return y.flip(0) if bad and where == "output" else y

    monkeypatch.setattr(bf16_check, "_call", call)
    found = wrong_in_bf16([nn.Sequential(nn.Conv2d(24, 20, 8, stride=4))], CPU)
    assert found.startswith(f"the {where} of Conv2d({'12, 12' if narrow else '24, 20'}, kernel 8x8")


def test_auto_keeps_float32_then_and_what_was_asked_for_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bf16_check, "_call", lambda layer, x, w: RIGHT(layer, x, w) * (
        float("nan") if torch.is_autocast_enabled("cpu") else 1.0
    ))  # fmt: skip
    nets = [nn.Conv1d(4, 4, 3)]
    precision, why, warning = trusted_bf16("auto", "native", "", nets, CPU)
    assert (precision, warning) == ("float32", "")
    assert "the output of Conv1d" in why
    precision, why, warning = trusted_bf16("bf16", "asked for", "", nets, CPU)
    assert (precision, why) == ("bf16", "asked for")
    assert "the output of Conv1d" in warning


def test_no_convolution_no_fault() -> None:
    assert wrong_in_bf16([nn.Linear(3, 3)], CPU) == ""
