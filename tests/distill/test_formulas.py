"""Values on 2x2 maps against formulas written out a second time, with numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gancompress.distill import DistillBatch, attention_transfer, kernel_alignment
from gancompress.distill.connector import Connector
from gancompress.distill.maths import (
    attention_map,
    channel_energy,
    first_rows,
    relative_mse,
    squared_norm,
)
from gancompress.distill.strategies.latent_direction import relation_divergence
from gancompress.distill.strategies.relational import channel_gram, cosine_matrix
from gancompress.errors import ConfigError, DataError
from tests.distill.toys import bench


def maps(*rows: list[list[float]]) -> Tensor:
    """One sample with the given 2x2 channels."""
    return torch.tensor([rows], dtype=torch.float32)


def test_attention_map_by_hand():
    # Squares summed over channels: 9 + 16, 0, 0, 0 -> only the first pixel is left.
    assert attention_map(maps([[3, 0], [0, 0]], [[4, 0], [0, 0]])).tolist() == [[1, 0, 0, 0]]
    # 1, 0, 0, 1 -> 1/sqrt(2) each.
    row = attention_map(maps([[1, 0], [0, -1]]))[0].tolist()
    assert row == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])


def test_attention_transfer_by_hand():
    student, teacher = maps([[2, 0], [0, 0]]), maps([[1, 0], [0, 1]])
    expected = (1 - math.sqrt(0.5)) ** 2 + 0.5
    assert float(attention_transfer(student, teacher)) == pytest.approx(expected)
    assert float(attention_transfer(student, teacher, "mean")) == pytest.approx(expected / 4)
    disjoint = attention_transfer(maps([[1, 0], [0, 0]]), maps([[0, 1], [0, 0]]))
    assert float(disjoint) == pytest.approx(2)


def test_gain_weighs_channels_before_the_sum():
    x = maps([[1, 0], [0, 0]], [[0, 1], [0, 0]])
    plain = attention_map(x)
    weighted = attention_map(x, torch.tensor([[2.0, 1.0]]))
    assert plain[0].tolist() == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 0, 0])
    assert weighted[0].tolist() == pytest.approx([4 / math.sqrt(17), 1 / math.sqrt(17), 0, 0])


def test_the_gradients_of_norms_maps_and_gains_are_those_of_their_formulas():
    torch.manual_seed(0)
    x, gain = (torch.randn(s, dtype=torch.float64) for s in ((2, 3, 2, 2), (2, 3)))
    x.requires_grad_()
    gain.requires_grad_()
    assert torch.autograd.gradcheck(squared_norm, (x,))
    assert torch.autograd.gradgradcheck(squared_norm, (x,))
    assert torch.autograd.gradcheck(channel_energy, (x, gain))
    assert torch.autograd.gradcheck(attention_map, (x, gain))
    assert torch.autograd.gradcheck(relative_mse, (x, torch.randn(2, 3, 2, 2).double()))


def test_activations_in_bf16_give_float32_losses_and_gradients_as_they_lie():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 8, 6, 6).bfloat16()
    student = student.to(memory_format=torch.channels_last).requires_grad_()
    wide = student.detach().float().requires_grad_()
    for formula in (relative_mse, attention_transfer):
        loss, exact = formula(student, teacher), formula(wide, teacher.float())
        assert loss.dtype == torch.float32
        assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=2e-3)
        (slope,) = torch.autograd.grad(loss, student)
        (wanted,) = torch.autograd.grad(exact, wide)
        assert slope.dtype == torch.bfloat16
        assert slope.is_contiguous(memory_format=torch.channels_last)
        assert float((slope - wanted).norm()) < 0.02 * float(wanted.norm())
    # A sum in bf16 would stop growing at 256.
    assert float(squared_norm(torch.ones(1000).bfloat16())) == pytest.approx(1000)


def test_first_rows_are_a_slice_whose_gradient_lies_as_the_input():
    x = torch.randn(4, 8, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    assert first_rows(x, 4) is x
    weight = torch.randn(3, 8, 6, 6)
    (slope,) = torch.autograd.grad((first_rows(x, 3) * weight).sum(), x)
    (wanted,) = torch.autograd.grad((x[:3] * weight).sum(), x)
    assert torch.equal(slope, wanted)
    assert slope.is_contiguous(memory_format=torch.channels_last)
    wide = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: first_rows(y, 2), (wide,))
    assert torch.autograd.gradgradcheck(lambda y: first_rows(y, 2).square(), (wide,))


def test_attention_ignores_order_number_and_scale_of_channels():
    x = torch.randn(3, 6, 4, 4)
    reference = attention_map(x)
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(attention_map(x[:, torch.randperm(6)]), reference, **close)
    torch.testing.assert_close(attention_map(x.repeat(1, 2, 1, 1)), reference, **close)
    torch.testing.assert_close(attention_map(-7 * x), reference, **close)
    padded = torch.cat([x, torch.zeros(3, 5, 4, 4)], dim=1)
    torch.testing.assert_close(attention_map(padded), reference, **close)


def test_attention_map_follows_the_pixels():
    x = torch.randn(3, 6, 4, 4)
    turned = attention_map(x.rot90(dims=(2, 3))).reshape(3, 4, 4)
    torch.testing.assert_close(turned, attention_map(x).reshape(3, 4, 4).rot90(dims=(1, 2)))


def test_kernel_alignment_against_numpy():
    x, y = torch.randn(5, 3, 2, 2), torch.randn(5, 7, 2, 2)
    a, b = x.flatten(1).numpy(), y.flatten(1).numpy()
    k, m = a @ a.T, b @ b.T
    expected = np.trace(k.T @ m) / (np.linalg.norm(k) * np.linalg.norm(m))
    assert float(kernel_alignment(x, y)) == pytest.approx(expected, rel=1e-5)


def test_kernel_alignment_ignores_rotations_and_scale_of_features():
    x, y = torch.randn(5, 3, 2, 2), torch.randn(5, 12)
    turn = torch.linalg.qr(torch.randn(12, 12)).Q
    expected = float(kernel_alignment(x, y))
    assert float(kernel_alignment(x, y @ turn)) == pytest.approx(expected, rel=1e-4)
    assert float(kernel_alignment(1e-8 * x, 1e8 * y)) == pytest.approx(expected, rel=1e-4)
    assert float(kernel_alignment(x, (x.flatten(1) @ turn))) == pytest.approx(1, rel=1e-5)


def test_relations_against_numpy():
    x = torch.randn(4, 3, 2, 2)
    a = x.flatten(1).numpy()
    cosines = a @ a.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(a, axis=1))
    np.testing.assert_allclose(cosine_matrix(x).numpy(), cosines, rtol=1e-4, atol=1e-6)
    by_hand = np.einsum("nihw,njhw->nij", x.numpy(), x.numpy()) / 4
    np.testing.assert_allclose(channel_gram(x).numpy(), by_hand, rtol=1e-4, atol=1e-6)


def test_relative_error_by_hand():
    student, teacher = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert float(relative_mse(student, teacher)) == pytest.approx((4 + 4) / (9 + 16))
    assert float(relative_mse(torch.zeros(2), teacher)) == pytest.approx(1)


def test_relation_divergence_against_numpy():
    parts = [torch.randn(3, 2, 2, 2) for _ in range(4)]
    a, b, c, d = (p.flatten(1).double().numpy() for p in parts)

    def rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        cosines = (x / np.linalg.norm(x, axis=1)[:, None]) @ (
            y / np.linalg.norm(y, axis=1)[:, None]
        ).T
        return np.exp(cosines) / np.exp(cosines).sum(1, keepdims=True)

    q, p = rows(a, b), rows(c, d)
    expected = (p * np.log(p / q)).sum(1).mean()
    assert float(relation_divergence(*parts)) == pytest.approx(expected, rel=1e-4)


def test_pixel_losses_against_numpy():
    networks = bench(same=False)
    for norm, power in (("l1", 1), ("l2", 2)):
        distiller = networks.build("pixel", norm=norm)
        batch = networks.batch(distiller)
        gap = (batch.student_images - batch.teacher_images).detach().numpy()
        assert float(distiller(batch).detach()) == pytest.approx(
            (np.abs(gap) ** power).mean(), rel=1e-5
        )


def test_losses_are_means_over_pairs():
    networks = bench(same=False)
    taps = ["blocks.0", "blocks.1", "blocks.2"]
    single = []
    for tap in taps:
        distiller = networks.build("attention", pairs=[tap])
        single.append(float(distiller(networks.batch(distiller)).detach()))
    distiller = networks.build("attention", pairs=taps)
    assert float(distiller(networks.batch(distiller)).detach()) == pytest.approx(np.mean(single))


def test_connector_is_the_identity_or_semi_orthogonal():
    like, x = torch.zeros(1), torch.randn(2, 4, 3, 3)
    assert torch.equal(Connector(4, 4, like=like)(x), x)
    wide = Connector(4, 6, like=like).weight
    torch.testing.assert_close(wide.T @ wide, torch.eye(4))
    narrow = Connector(6, 4, like=like).weight
    torch.testing.assert_close(narrow @ narrow.T, torch.eye(4))


def test_connector_maps_channels_of_every_pixel():
    connector = Connector(2, 3, like=torch.zeros(1))
    x = torch.randn(2, 2, 4, 5)
    expected = np.einsum("oi,nihw->nohw", connector.weight.detach().numpy(), x.numpy())
    np.testing.assert_allclose(connector(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_connector_keeps_its_parameter_through_cuts():
    connector = Connector(4, 4, like=torch.zeros(1))
    optimizer = torch.optim.Adam(connector.parameters(), lr=0.1)
    parameter, x = connector.weight, torch.randn(2, 4, 3, 3)
    connector(x).square().mean().backward()
    optimizer.step()
    connector.shrink(torch.tensor([1, 2, 3]))
    connector.shrink(torch.tensor([0, 2]))
    assert connector.weight is parameter
    assert connector.alive.tolist() == [1, 3]
    gated = x * torch.tensor([0, 1.0, 0, 1]).view(1, 4, 1, 1)
    expected = torch.einsum("oi,nihw->nohw", parameter, gated)
    torch.testing.assert_close(connector(x[:, [1, 3]]), expected)
    optimizer.zero_grad()
    connector(x[:, [1, 3]]).square().mean().backward()
    assert parameter.grad[:, [0, 2]].count_nonzero() == 0
    optimizer.step()


def test_connector_after_a_forgotten_cut_says_so():
    connector = Connector(4, 4, like=torch.zeros(1))
    with pytest.raises(ConfigError, match="reads 4 channels and got 3: call distiller.shrink"):
        connector(torch.randn(2, 3, 1, 1))


def test_batch_names_what_is_missing_or_misfits():
    image = torch.zeros(2, 1, 4, 4)
    student = {"block": torch.zeros(2, 3, 4, 4)}
    teacher = {"block": torch.zeros(2, 3, 2, 2)}
    batch = DistillBatch((), None, image, torch.zeros(2, 1, 8, 8), student, teacher)
    with pytest.raises(ConfigError, match=r"no student activation 'blok'.*Did you mean 'block'"):
        batch.pair("blok")
    with pytest.raises(ConfigError, match=r"'block': student \(2, 3, 4, 4\) and teacher"):
        batch.pair("block")
    with pytest.raises(DataError, match="class labels and this batch has none"):
        batch.classes("x")
    with pytest.raises(DataError, match=r"\(2, 1, 4, 4\) and teacher images \(2, 1, 8, 8\)"):
        batch.images()
