"""Spectral norm and the norms do what their equations say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gancompress.models.layers import (
    ConditionalBatchNorm2d,
    SelfAttention2d,
    SpectralConv2d,
    SpectralEmbedding,
    SpectralLinear,
    spectral_weight,
)

LAYERS = [
    (lambda: SpectralConv2d(5, 7, 3, eps=1e-8), torch.randn(2, 5, 6, 6)),
    (lambda: SpectralLinear(5, 7, eps=1e-8), torch.randn(2, 5)),
    (lambda: SpectralEmbedding(7, 5, eps=1e-8), torch.tensor([0, 6, 3])),
]


@pytest.mark.parametrize(("build", "example"), LAYERS, ids=["conv", "linear", "embedding"])
def test_sigma_converges_to_the_largest_singular_value(build, example) -> None:
    layer = build()
    for _ in range(300):
        layer(example)
    sigma = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
    torch.testing.assert_close(layer.sv0[0], sigma, rtol=1e-4, atol=0)
    torch.testing.assert_close(layer.u0.norm(), torch.tensor(1.0))


@pytest.mark.parametrize(("build", "example"), LAYERS, ids=["conv", "linear", "embedding"])
def test_only_training_mode_moves_the_buffers(build, example) -> None:
    layer = build().eval()
    u0, sv0 = layer.u0.clone(), layer.sv0.clone()
    first = layer(example)
    assert torch.equal(first, layer(example))
    assert torch.equal(layer.u0, u0)
    assert torch.equal(layer.sv0, sv0)
    layer.train()(example)
    assert not torch.equal(layer.u0, u0)
    assert not torch.equal(layer.sv0, sv0)


def test_gradient_flows_through_sigma_and_not_through_the_vectors() -> None:
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    u0 = torch.randn(1, 4, dtype=torch.float64)
    direction = torch.randn(4, 6, dtype=torch.float64)
    log = torch.ones(1, dtype=torch.float64)
    (spectral_weight(weight, u0, log, eps=1e-8, update=False) * direction).sum().backward()

    v = nn.functional.normalize(u0 @ weight.detach())
    u = nn.functional.normalize(v @ weight.detach().T)
    other = weight.detach().clone().requires_grad_()
    (other / (v @ other.T @ u.T) * direction).sum().backward()
    torch.testing.assert_close(weight.grad, other.grad, rtol=1e-10, atol=1e-12)


def test_channels_last_weight_is_not_copied_and_gives_the_same_sigma() -> None:
    weight = torch.randn(8, 6, 3, 3)
    u0 = torch.randn(1, 8)
    plain = spectral_weight(weight, u0, torch.ones(1), eps=1e-8, update=False)
    laid = weight.to(memory_format=torch.channels_last)
    result = spectral_weight(laid, u0, torch.ones(1), eps=1e-8, update=False)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, plain, rtol=1e-5, atol=1e-6)


def test_zeroed_columns_equal_removed_columns() -> None:
    weight = torch.randn(6, 8, 3, 3, dtype=torch.float64)
    weight[:, 5:] = 0
    u0, log = torch.randn(1, 6, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    masked = spectral_weight(weight, u0, log, eps=1e-8, update=False)
    cut = spectral_weight(weight[:, :5].contiguous(), u0, log, eps=1e-8, update=False)
    torch.testing.assert_close(masked[:, :5], cut, rtol=0, atol=1e-14)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_conditional_norm_is_norm_then_affine(training) -> None:
    norm = ConditionalBatchNorm2d(6, nn.Embedding(3, 6), nn.Embedding(3, 6), eps=1e-5).double()
    norm.stored_mean.uniform_(-1, 1)
    norm.stored_var.uniform_(0.5, 2)
    norm.train(training)
    plain = nn.BatchNorm2d(6, affine=False).double().train(training)
    plain.running_mean.copy_(norm.stored_mean)
    plain.running_var.copy_(norm.stored_var)
    x = torch.randn(4, 6, 5, 5, dtype=torch.float64) * 3 + 1
    y = torch.tensor([0, 2, 1, 2])
    gain, bias = norm.gain(y)[:, :, None, None], norm.bias(y)[:, :, None, None]
    torch.testing.assert_close(norm(x, y), plain(x) * (1 + gain) + bias, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(norm.stored_mean, plain.running_mean)
    torch.testing.assert_close(norm.stored_var, plain.running_var)


def test_attention_without_gamma_is_the_identity_and_with_it_is_a_mean_of_values() -> None:
    attention = SelfAttention2d(16, eps=1e-8).double()
    x = torch.randn(2, 16, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(attention(x), x, rtol=0, atol=0)
    # One value everywhere: any weights that sum to one give it back.
    with torch.no_grad():
        attention.gamma.fill_(2.0)
        flat = torch.randn(2, 16, 1, 1, dtype=torch.float64).expand(2, 16, 4, 4)
        attention.eval()
        wanted = flat + 2 * attention.o(attention.g(flat))
        torch.testing.assert_close(attention(flat), wanted, rtol=0, atol=1e-12)


def test_spectral_gradients_first_and_second_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    raw = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    u0, sv0 = torch.randn(1, 4, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    x = torch.randn_like(raw)

    def plain(weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        v = functional.normalize(u0 @ matrix.detach(), dim=1, eps=1e-12)
        wv = functional.linear(v, matrix)
        u = functional.normalize(wv.detach(), dim=1, eps=1e-12)
        return weight / (u * wv).sum()

    results = []
    for scaled in (plain, lambda w: spectral_weight(w, u0, sv0, eps=1e-12, update=False)):
        weight = raw.clone().requires_grad_()
        out = scaled(weight)
        first = torch.autograd.grad((out.tanh() * x).sum(), weight, create_graph=True)[0]
        second = torch.autograd.grad(first.square().sum(), weight)[0]
        results.append((out, first, second))
    for found, wanted in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
