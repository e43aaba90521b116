"""Sound and volumes: the loop trains what is no picture, with a discriminator or without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.errors import DataError
from gancompress.training.samples import save_grid

from .nets import recipe

CONVS = {1: nn.Conv1d, 3: nn.Conv3d}
UPS = {1: nn.ConvTranspose1d, 3: nn.ConvTranspose3d}


class Vocoder(nn.Module):
    """Features (n, 4, *space) to a signal (n, 1, *2 space), beyond [-1, 1]."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.first = CONVS[rank](4, 12, 3, padding=1)
        self.up = UPS[rank](12, 8, 4, 2, 1)
        self.last = CONVS[rank](8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.last(torch.relu(self.up(torch.relu(self.first(x)))))

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(n, 4, *(3,) * self.rank, generator=rng),)


def judge(rank: int) -> nn.Module:
    return nn.Sequential(CONVS[rank](1, 6, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("judged", [False, True])
def test_sound_and_volumes_are_pruned(rank: int, judged: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator, discriminator = Vocoder(rank), judge(rank) if judged else None
    if discriminator is not None:
        discriminator(generator(*generator.sample_inputs(2, torch.Generator())))
    given = recipe(
        distill=[{"name": "pixel", "weight": 1.0}, {"name": "attention", "weight": 1.0}],
        discriminator={"policy": "teacher", "real": "auto" if judged else "teacher"},
        augment=[],
        channels_last=True,
        sample_every=1,
        steps=6,
        finetune_steps=2,
    )
    done = gc.train(given, generator=generator, discriminator=discriminator, out=tmp_path / "run")
    assert done.verified is not None
    assert done.verified["passed"]
    assert sum(p.numel() for p in done.generator.parameters()) < 0.6 * sum(
        p.numel() for p in Vocoder(rank).parameters()
    )
    assert not list((tmp_path / "run").rglob("*.png"))
    again = gc.load(lambda: Vocoder(rank), tmp_path / "run" / "model")
    example = generator.sample_inputs(2, torch.Generator())
    torch.testing.assert_close(again(*example), done.generator(*example))


def test_augmentations_of_images_are_refused_before_step_0() -> None:
    generator, discriminator = Vocoder(1), judge(1)
    discriminator(generator(*generator.sample_inputs(2, torch.Generator())))
    with pytest.raises(DataError, match=r"augment \(translation\).*\(2, 1, 6\).*augment=\[\]"):
        gc.train(
            recipe(distill=[{"name": "pixel", "weight": 1.0}], augment=["translation"]),
            generator=generator,
            discriminator=discriminator,
        )


@pytest.mark.parametrize("shape", [(4, 1, 8), (4, 1, 8, 8, 8)])
def test_what_is_no_picture_is_not_drawn(shape: tuple[int, ...], tmp_path: Path) -> None:
    save_grid(torch.zeros(shape), tmp_path / "grid.png", columns=2)
    assert not list(tmp_path.iterdir())
