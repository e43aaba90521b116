from __future__ import annotations

import pytest
import torch

from gancompress.training.losses import ADVERSARIAL


def test_hinge_is_flat_beyond_the_margin() -> None:
    loss = ADVERSARIAL.get("hinge")()
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -9.0])
    assert loss.discriminator(real, fake) == 0
    assert loss.discriminator(-real, -fake) == (2 + 4) / 2 + (2 + 10) / 2
    assert loss.generator(torch.tensor([2.0, 4.0])) == -3


def test_logistic_loss_at_zero_and_lsgan_at_its_targets() -> None:
    zero = torch.zeros(4)
    loss = ADVERSARIAL.get("nonsaturating")()
    assert loss.discriminator(zero, zero).item() == pytest.approx(2 * 0.693147, abs=1e-5)
    loss = ADVERSARIAL.get("lsgan")()
    assert loss.discriminator(torch.ones(4), zero) == 0
    assert loss.generator(torch.ones(4)) == 0


@pytest.mark.parametrize("name", ADVERSARIAL.names())
def test_gradients_push_the_right_way(name: str) -> None:
    loss = ADVERSARIAL.get(name)()
    real = torch.zeros(4, requires_grad=True)
    fake = torch.zeros(4, requires_grad=True)
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    # LSGAN's target for fakes is 0, where its gradient vanishes.
    assert (fake.grad >= 0).all()
    fake = torch.zeros(4, requires_grad=True)
    loss.generator(fake).backward()
    assert (fake.grad < 0).all()


def test_cross_entropy_reads_probabilities() -> None:
    loss = ADVERSARIAL.get("bce")()
    real, fake = torch.tensor([0.9, 0.2]), torch.tensor([0.3, 0.6])
    ones, zeros = torch.ones(2), torch.zeros(2)
    wanted = torch.nn.functional.binary_cross_entropy
    expected = wanted(real, ones) + wanted(fake, zeros)
    torch.testing.assert_close(loss.discriminator(real, fake), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.generator(fake), wanted(fake, ones), rtol=1e-5, atol=1e-5)
    # On a sigmoid it is what the logistic loss is on logits.
    logits, other = torch.randn(8), torch.randn(8)
    same = ADVERSARIAL.get("nonsaturating")()
    torch.testing.assert_close(
        loss.discriminator(logits.sigmoid(), other.sigmoid()),
        same.discriminator(logits, other),
        rtol=1e-4,
        atol=1e-4,
    )
    assert torch.isfinite(loss.discriminator(torch.zeros(2), torch.ones(2)))


def test_critic_of_wgan_and_its_drift() -> None:
    loss = ADVERSARIAL.bind("wgan")()
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -2.0])
    assert loss.discriminator(real, fake) == -1.5 - 2
    assert loss.generator(fake) == 1.5
    drifting = ADVERSARIAL.bind({"name": "wgan", "drift": 0.1})()
    assert float(drifting.discriminator(real, fake)) == pytest.approx(-3.5 + 0.1 * 5)
