"""Networks and images small enough for hundreds of steps in a test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancompress.data.arrays import ArrayDataset
from gancompress.recipes.schema import Recipe

CLASSES = 3


class TinyGenerator(nn.Module):
    """z (n, 6) and labels of 3 classes to images (n, 1, 8, 8)."""

    n_classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, 4)
        self.linear = nn.Linear(10, 8 * 4 * 4)
        self.norm = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 12, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = self.linear(torch.cat([z, self.embed(y)], 1)).view(len(z), -1, 4, 4)
        x = torch.relu(self.norm(x))
        x = nn.functional.interpolate(x, scale_factor=2)
        x = torch.relu(self.norm1(self.conv1(x)))
        return torch.tanh(self.conv2(x))

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 6, generator=rng), torch.randint(CLASSES, (n,), generator=rng)


class TinyDiscriminator(nn.Module):
    """Images (n, 1, 8, 8) and labels to logits; dropout, so that global randomness matters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Flatten()
        )
        self.out = nn.Linear(8 * 16, 1)
        self.embed = nn.Embedding(CLASSES, 8 * 16)

    def forward(self, images: Tensor, y: Tensor) -> Tensor:
        h = self.body(images)
        return self.out(h) + (self.embed(y) * h).sum(1, keepdim=True)


def networks(seed: int = 0) -> tuple[TinyGenerator, TinyDiscriminator]:
    torch.manual_seed(seed)
    return TinyGenerator(), TinyDiscriminator()


def images(n: int = 48) -> ArrayDataset:
    rng = torch.Generator().manual_seed(7)
    y = torch.arange(n) % CLASSES
    x = torch.randint(0, 80, (n, 1, 8, 8), generator=rng) + 80 * y[:, None, None, None]
    return ArrayDataset(x.to(torch.uint8), y, CLASSES)


def recipe(**changes: object) -> Recipe:
    """Return a pruning recipe of 12 steps with two live cuts and 4 steps of fine-tuning."""
    base: dict[str, object] = {
        "name": "tiny",
        "kind": "prune",
        "summary": "for tests",
        "target": "params=2x",
        "penalty": {"name": "cost", "weight": 0.1},
        "schedule": {"name": "cubic", "start": 0.0, "end": 0.75},
        "shrink": {"events": [0.4, 0.7]},
        "distill": [{"name": "feature", "weight": 0.5}, {"name": "pixel"}],
        "augment": ["color", "translation", "cutout"],
        "ema": {"decay": 0.9, "start": 2},
        "lr_decay": 0.5,
        "batch": 8,
        "steps": 12,
        "finetune_steps": 4,
        "log_every": 1,
        "sample_every": 0,
        "checkpoint_every": 3,
        # What ``auto`` chooses differs from one CPU to another.
        "precision": "float32",
        "channels_last": False,
    }
    return Recipe.model_validate(base | changes)


def train_recipe(**changes: object) -> Recipe:
    """Return a recipe that trains from nothing."""
    off = {"kind": "train", "target": None, "distill": [], "shrink": {"events": []}}
    return recipe(**(off | {"finetune_steps": 0, "network": "tiny"} | changes))
