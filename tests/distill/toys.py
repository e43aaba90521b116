"""Small conditional networks, and the table of distillers that generic tests run on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.distill import DistillBatch, Distiller, Taps, build_distiller

CLASSES, LATENT = 3, 5


class ClassNorm(nn.Module):
    """Conditional batch norm with one table of (gain, bias) rows: gain(y) norm(x) + bias(y)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c, affine=False)
        self.embed = nn.Embedding(CLASSES, 2 * c)
        with torch.no_grad():
            self.embed.weight[:, :c].add_(2.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain, bias = self.embed(y).chunk(2, dim=1)
        return gain[:, :, None, None] * self.norm(x) + bias[:, :, None, None]


class Block(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.norm = ClassNorm(i)
        self.conv = nn.Conv2d(i, o, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(F.interpolate(F.relu(self.norm(x, y)), scale_factor=2))


class Generator(nn.Module):
    """(n, LATENT) and labels to (n, 1, 16, 16), by way of 4x4 and 8x8."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.start = nn.Linear(LATENT, width * 4)
        self.blocks = nn.ModuleList([Block(width, width), Block(width, width), Block(width, width)])
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = self.start(z).unflatten(1, (-1, 2, 2))
        for block in self.blocks:
            x = block(x, y)
        return torch.tanh(self.last(x))


class Discriminator(nn.Module):
    """Projection discriminator with maps of 8x8 and 4x4."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.linear = nn.Linear(width, 1)
        self.embed = nn.Embedding(CLASSES, width)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        hidden = self.second(F.relu(self.first(images)))
        hidden = F.relu(hidden).sum((2, 3))
        return self.linear(hidden) + (self.embed(labels) * hidden).sum(1, keepdim=True)


class Features(nn.Module):
    """A frozen feature function for the perceptual loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3).requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images), F.avg_pool2d(images, 4)]


@dataclass(frozen=True)
class Setting:
    """One row of the table: a distiller with options, and what does not hold for it."""

    name: str
    options: dict[str, Any]
    zero_at_identity: bool = True

    def __str__(self) -> str:
        words = [v if isinstance(v, str) else k for k, v in self.options.items()]
        return "-".join([self.name, *words])


torch.manual_seed(7)
SETTINGS = [
    Setting("pixel", {"norm": "l1"}),
    Setting("pixel", {"norm": "l2"}),
    Setting("perceptual", {"features": Features().eval()}),
    Setting("feature", {}),
    Setting("attention", {}),
    Setting("attention", {"reduction": "mean"}),
    Setting("class_aware", {"variant": "plain"}),
    Setting("class_aware", {"variant": "gain"}),
    Setting("class_aware", {"variant": "prototype"}),
    Setting("class_aware", {"variant": "cam"}),
    Setting("co_attention", {}, zero_at_identity=False),
    Setting("co_attention", {"symmetric": True}),
    Setting("kernel_alignment", {}),
    Setting("relational", {"relation": "cosine"}),
    Setting("relational", {"relation": "gram"}),
    Setting("discriminator_features", {}),
    Setting("latent_direction", {}),
    Setting("distribution", {}),
    Setting("distribution", {"features": Features().eval()}),
]


@dataclass
class Bench:
    """Teacher, student (a copy of it, or another one) and the teacher's discriminator."""

    teacher: Generator
    student: Generator
    discriminator: Discriminator

    @property
    def example(self) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(1)
        labels = torch.arange(4) % CLASSES
        return torch.randn(4, LATENT, generator=rng), labels

    def build(self, name: str, **options: Any) -> Distiller:
        return build_distiller(
            name,
            teacher=self.teacher,
            student=self.student,
            discriminator=self.discriminator,
            example=self.example,
            **options,
        )

    def batch(self, distiller: Distiller, n: int = 6, seed: int = 2) -> DistillBatch:
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(n, LATENT, generator=rng)
        y = torch.randint(CLASSES, (n,), generator=rng)
        with Taps(self.teacher, dict(distiller.pairs)) as taps, torch.no_grad():
            teacher_images = self.teacher(z, y)
            teacher = taps.take()
        with Taps(self.student, [s for s, _ in distiller.pairs]) as taps:
            student_images = self.student(z, y)
            student = taps.take()
        return DistillBatch((z, y), y, student_images, teacher_images, student, teacher)


def bench(*, same: bool, width: int | None = None) -> Bench:
    """Return networks with lively statistics; ``same`` makes the student an exact copy."""
    torch.manual_seed(0)
    teacher, discriminator = Generator().eval(), Discriminator().train()
    for part in teacher.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.1, 0.3)
    student = copy.deepcopy(teacher) if width is None else Generator(width).eval()
    if not same and width is None:
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return Bench(teacher, student, discriminator)
