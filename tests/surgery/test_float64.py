"""A float32 network computes in float64 under the mode as a real float64 copy of it does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc
from gancompress.surgery import float64 as precise
from gancompress.surgery.float64 import Float64


class Weights(nn.Module):
    """Everything that forwards do with weights before they use them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4, 3, 3))
        self.bias = nn.Parameter(torch.randn(6))
        self.register_buffer("gate", torch.tensor([1.0, 0.0, 1.0, 1.0]).view(1, 4, 1, 1))
        self.register_buffer("scale", torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        gated = self.weight * self.gate
        matrix = gated.flatten(1)
        norm = (matrix @ matrix.t()).diagonal().sqrt().view(-1, 1, 1, 1)
        normed = gated / norm * self.scale
        out = F.conv2d(x, normed, self.bias, 1, padding=(1, 1))
        strided = F.conv2d(x, torch.mul(gated.view(6, 4, 3, 3), self.scale), None, stride=2)
        depthwise = F.conv2d(x, self.weight.permute(1, 0, 2, 3)[:, :1], groups=4)
        clone = self.weight.clone()
        clone *= 1 / 3
        total = out.sum((2, 3)) + strided.mean((2, 3)) + clone.sum((1, 2, 3))
        return total + depthwise.mean()


@pytest.mark.parametrize("limit", [precise._UNFOLDED, 3000, 1])
def test_equals_a_float64_copy(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, x = Weights(), torch.randn(2, 4, 7, 9, dtype=torch.float64)
    monkeypatch.setattr(precise, "_UNFOLDED", limit)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad(), Float64():
        found = net(x)
    with torch.no_grad():
        wanted = copy.deepcopy(net).double()(x)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_stand_ins_are_used_through_views_and_gates() -> None:
    torch.manual_seed(0)
    net, x = Weights(), torch.randn(2, 4, 7, 9, dtype=torch.float64)
    other = torch.randn_like(net.weight)
    with torch.no_grad(), Float64({id(net.weight): lambda: other}):
        found = net(x)
    twin = copy.deepcopy(net)
    twin.weight.data = other
    with torch.no_grad():
        torch.testing.assert_close(found, twin.double()(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1, 1), {}),
        ((2, "valid", 2), {}),
        ((), {"padding": "same", "dilation": 2}),
        ((1, 0, 1, 2), {}),
    ],
)
def test_convolution_in_pieces(
    args: Any, kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = args[3] if len(args) > 3 else 1
    x, bias = torch.randn(2, 6, 8, 8).double(), torch.randn(4).double()
    weight = torch.randn(4, 6 // groups, 3, 3).double()
    monkeypatch.setattr(precise, "_UNFOLDED", 4000)
    for image in (x, x[0]):
        found = precise._conv2d(image, weight, bias, *args, **kwargs)
        torch.testing.assert_close(found, torch.conv2d(image, weight, bias, *args, **kwargs))


class Waves(nn.Module):
    """Mixes channels of a spectrum by complex weights; hands the spectrum out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.out = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 3, 1)
        self.mix = nn.Parameter(torch.randn(12, 12, dtype=torch.complex64) / 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.fft.rfft2(self.a(x))
        h = torch.einsum("nchw,oc->nohw", h, self.mix)
        y = self.out(torch.fft.irfft2(h, s=x.shape[-2:]).relu())
        return y, torch.fft.fft(y)


def test_complex_weights_and_outputs_are_compared() -> None:
    net, x = Waves().eval(), torch.randn(2, 3, 8, 8)
    masked = gc.wrap(net, x, target="params=1.5x")
    masked.advance(1.0)
    small = masked.prune()
    assert masked.verification is not None
    assert masked.verification.max_error <= 1e-9
    assert small.a.out_channels < 12
    with torch.no_grad():
        small.mix[0, 0] += 0.1j
    assert not gc.verify(net, small, x).passed
