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


def extremes(name: str, images: torch.Tensor, seeds: int = 40) -> torch.Tensor:
    rngs = (torch.Generator().manual_seed(seed) for seed in range(seeds))
    return torch.cat([augment(images, [name], rng) for rng in rngs])


def test_color_changes_contrast_by_half_to_one_and_a_half_and_brightness_by_half() -> None:
    # Grey pictures: saturation has no say. Contrast is how far apart the two halves are.
    images = torch.full((16, 1, 4, 4), -0.5)
    images[:, :, 2:] = 0.5
    out = extremes("color", images)
    contrast = (out[:, 0, 3, 0] - out[:, 0, 0, 0]).abs()
    assert 0.5 <= contrast.min() < 0.55
    assert 1.45 < contrast.max() <= 1.5
    brightness = out.mean((1, 2, 3))
    assert -0.5 <= brightness.min() < -0.45
    assert 0.45 < brightness.max() <= 0.5


@pytest.mark.parametrize(("side", "most"), [(3, 0), (4, 1), (11, 1), (12, 2), (28, 4), (32, 4)])
def test_translation_rounds_an_eighth_to_the_nearest_pixel(side: int, most: int) -> None:
    images = torch.full((32, 1, side, side), -1.0)
    images[:, :, side // 2, side // 2] = 1.0
    out = extremes("translation", images)
    places = (out[:, 0] == 1).nonzero()[:, 1:] - side // 2
    assert places.abs().max() == most


def test_options_of_augmentations() -> None:
    images = torch.zeros(32, 1, 16, 16)
    rng = torch.Generator().manual_seed(0)
    out = augment(images, [{"name": "translation", "ratio": 0.25, "fill": 3}], rng)
    assert set(out.unique().tolist()) == {0.0, 3.0}
    assert (out == 3).any(3).sum(2).max() == 16
    small = augment(images + 1, [{"name": "cutout", "ratio": 0.25}, lambda x, rng: -x], rng)
    assert (small == 0).float().mean((1, 2, 3)).max() == 1 / 16
    assert small.min() == -1
