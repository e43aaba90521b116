"""Norms over all channels: they keep the module's channels, and lose single ones in graph form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc
from gancompress.graph.form import fixed_count_norms as counted

from .literal_nets import LAYERS, Motif, build, latents, train


class ByHand(torch.autograd.Function):
    """The layer norm over channels that restoration networks carry."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        y = (x - mean) / (spread + 1e-6).sqrt()
        ctx.save_for_backward(spread, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        spread, y = ctx.saved_tensors
        means = grad.mean(1, keepdim=True), (grad * y).mean(1, keepdim=True)
        return (grad - means[0] - y * means[1]) / (spread + 1e-6).sqrt()


def last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def attended(x: Tensor) -> Tensor:
    t = last(x).flatten(1, 2)
    return F.scaled_dot_product_attention(t, t, t).transpose(1, 2).unflatten(2, x.shape[2:])


def two_moments(x: Tensor) -> Tensor:
    spread, mean = torch.var_mean(x, dim=1, keepdim=True)
    return x * mean / (spread + 1e-3).sqrt()


def deviations(x: Tensor) -> Tensor:
    spread, mean = torch.std_mean(x, dim=1, keepdim=True, correction=0)
    return x * mean / (spread + 1e-3)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "layer_norm": lambda x: first(F.layer_norm(last(x), (16,))),
    "layer_norm_of_all": lambda x: F.layer_norm(x, (16, 3, 3)),
    "rms_norm": lambda x: first(F.rms_norm(last(x), (16,), eps=1e-5)),
    "group_norm": lambda x: F.group_norm(x, 1),
    "pixel_norm": lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8),
    "mean": lambda x: x + x.mean(1, keepdim=True),
    "mean_of_all": lambda x: x * x.mean((1, 2, 3), keepdim=True),
    "by_hand": ByHand.apply,
    "squared": lambda x: x / (1 + (x.mean(1, True) - x).square().mean(1, True)),
    "standardised": lambda x: (x - x.mean(1, True)) / (x.var(1, keepdim=True) + 1e-5).sqrt(),
    "std": lambda x: x / (0.1 + x.std(dim=1, keepdim=True)),
    "var_mean": two_moments,
    "std_mean": deviations,
    "attention": attended,
}


def norm_net(name: str) -> nn.Module:
    class Normed(Motif):
        def body(self, x: Tensor) -> Tensor:
            return NORMS[name](x)

    return build(Normed)


@pytest.mark.parametrize("name", NORMS)
def test_norm_keeps_the_module_whole_and_not_the_graph(name: str) -> None:
    net = norm_net(name).eval()
    found = gc.inspect(net, latents())
    held = {r.layer: r.reason for r in found.rows if r.status == "kept"}
    assert "test_fixed_count_norms.py" in held["conv"]
    assert 'form="graph"' in found.graph.hint

    masked = gc.wrap(net, latents(), form="graph")
    for layer in LAYERS:
        atoms = masked.graph.slots[(f"{layer}.weight", 0)].atoms
        assert atoms is not None
        assert (masked.graph.owners(atoms) >= 0).all()
    assert not masked.graph.hint
    train(masked)
    plan = gc.random_plan(masked.graph, 0.5, 1)
    masked.apply(plan)
    small = masked.prune(plan)
    for n in (1, 2, 5):
        assert gc.verify(masked.generator, small, latents(n)).max_error <= 1e-9


@pytest.mark.parametrize("name", NORMS)
def test_graph_form_computes_what_torch_does(name: str) -> None:
    net = norm_net(name).double().eval()
    (z,) = latents(4)
    made = gc.to_graph(net, (z.double(),))
    error = (made(z.double()) - net(z.double())).abs().max()
    assert error < 1e-12


X = torch.randn(3, 16, 5, generator=torch.Generator().manual_seed(0)) * 2 + 3
PAIRS: dict[str, tuple[Callable[[Tensor, int], Any], Callable[[Tensor], Any]]] = {
    "mean": (lambda x, n: counted.mean_of(x, [1], True, n), lambda x: x.mean(1, keepdim=True)),
    "var": (lambda x, n: counted.variance_of(x, [1], 1, False, n), lambda x: x.var(1)),
    "std": (
        lambda x, n: counted.deviation_of(x, [1], 0, False, n),
        lambda x: x.std(1, correction=0),
    ),
    "layer_norm": (
        lambda x, n: counted.layer_norm_of(x.mT, 1, None, None, 1e-5, n).mT,
        lambda x: F.layer_norm(x.mT, (16,)).mT,
    ),
    "rms_norm": (
        lambda x, n: counted.rms_norm_of(x.mT, 1, None, None, n).mT,
        lambda x: F.rms_norm(x.mT, (16,)).mT,
    ),
    "group_norm": (
        lambda x, n: counted.one_group_norm_of(x, None, None, 1e-5, n * 5),
        lambda x: F.group_norm(x, 1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_channels_that_are_gone_count_as_zero(name: str) -> None:
    ours, torchs = PAIRS[name]
    x = X.double()
    silenced = x.clone()
    silenced[:, 10:] = 0
    want = torchs(silenced)
    got = ours(x[:, :10], 16)
    assert torch.allclose(got, want[:, :10] if want.shape[1] == 16 else want, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", PAIRS)
def test_precision_is_that_of_torch(name: str, dtype: torch.dtype) -> None:
    """Squares are summed in float32: large values neither overflow nor drown."""
    ours, torchs = PAIRS[name]
    x = (X * 60).to(dtype)
    got, want = ours(x, 16), torchs(x)
    assert got.dtype == want.dtype
    exact = torchs(x.double())
    tolerance = 4 * torch.finfo(dtype).eps * exact.abs().max()
    assert (got.double() - exact).abs().max() <= tolerance


def test_constant_rows_have_no_negative_spread() -> None:
    x = torch.full((2, 7, 3), 1e3) + 1e-4
    assert not counted.deviation_of(x, [1], 0, True, 7).isnan().any()
    assert not counted.one_group_norm_of(x, None, None, 1e-12, 21).isnan().any()


def test_scale_of_attention_is_held() -> None:
    net = norm_net("attention").eval()
    made = gc.to_graph(net, latents())
    assert "scale = 0.25" in made.code
    assert copy.deepcopy(made).code == made.code
