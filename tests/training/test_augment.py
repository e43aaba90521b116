from __future__ import annotations

import pytest
import torch

from gancompress.training.augment import AUGMENTATIONS, augment


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 16, 12)])
def test_differentiable_and_decided_by_the_generator_alone(name: str, shape: tuple) -> None:
    images = torch.rand(shape) * 2 - 1
    images.requires_grad_(True)
    first = augment(images, [name], torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    again = augment(images, [name], torch.Generator().manual_seed(1))
    other = augment(images, [name], torch.Generator().manual_seed(2))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    first.square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_each_image_gets_draws_of_its_own() -> None:
    images = torch.rand(1, 1, 8, 8).repeat(16, 1, 1, 1)
    for name in AUGMENTATIONS.names():
        out = augment(images, [name], torch.Generator().manual_seed(0))
        assert len({tuple(image.flatten().tolist()) for image in out}) > 1


def test_translation_moves_a_dot_by_at_most_an_eighth_and_fills_with_ground() -> None:
    images = torch.full((64, 1, 16, 16), -1.0)
    images[:, :, 8, 8] = 1.0
    out = augment(images, ["translation"], torch.Generator().manual_seed(0))
    places = (out[:, 0] == 1).nonzero()[:, 1:]
    assert len(places) == 64
    assert (places - 8).abs().max() == 2
    assert ((out == 1) | (out == -1)).all()


def test_cutout_blanks_at_most_a_quarter() -> None:
    images = torch.ones(64, 1, 16, 16)
    out = augment(images, ["cutout"], torch.Generator().manual_seed(0))
    share = (out == 0).float().mean((1, 2, 3))
    assert share.max() == 0.25
    assert share.min() > 0


def test_no_augmentation_is_no_change() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert augment(images, [], torch.Generator()) is images
