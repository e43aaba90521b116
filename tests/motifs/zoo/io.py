"""Inputs and outputs that are not one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


class Simple(nn.Module):
    """stem -> body -> out on an image; subclasses change the signature."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def image(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.body(F.relu(self.stem(x)))))


FREE = {"stem": 12, "body": 12}


@motif("dict_io", free=FREE)
class DictIO(Simple):
    """A dict in, a nested dict out."""

    def example(self) -> Example:
        return ({"image": torch.randn(2, 3, 5, 5), "gain": torch.rand(2) + 0.5},), {}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        image = self.image(batch["image"] * batch["gain"][:, None, None, None])
        return {"image": image, "stats": {"mean": image.mean(), "count": 2}}


@dataclass
class Batch:
    """Input of `DataclassIO`."""

    z: Tensor
    scale: float = 1.0


@dataclass
class Sample:
    """Output of `DataclassIO`; `aux` may be absent."""

    image: Tensor
    aux: Tensor | None = None


@motif("dataclass_io", free=FREE)
class DataclassIO(Simple):
    """A dataclass in, a dataclass out."""

    def example(self) -> Example:
        return (Batch(torch.randn(2, 3, 5, 5), 0.5),), {}

    def forward(self, batch: Batch) -> Sample:
        return Sample(torch.tanh(self.image(batch.z * batch.scale)))


class Pair(NamedTuple):
    """Output of `KeywordOnly`."""

    image: Tensor
    low: Tensor


@motif("keyword_only", free=FREE)
class KeywordOnly(Simple):
    """Keyword-only arguments, one of them not a tensor, and a named tuple out."""

    def example(self) -> Example:
        return (), {"z": torch.randn(2, 3, 5, 5), "truncation": 0.7, "noise": None}

    def forward(self, *, z: Tensor, truncation: float = 1.0, noise: Tensor | None = None) -> Pair:
        image = self.image(z * truncation if noise is None else z * truncation + noise)
        return Pair(image, F.avg_pool2d(image, 2))


# What is returned is seen from outside: those channels stay. The hidden ones of body go.
@motif("returns_features", free={"body": 12}, kept={"stem": ("output",)})
class ReturnsFeatures(nn.Module):
    """Intermediate features are part of the output tuple."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        h = self.stem(x)
        return self.out(F.relu(self.body(F.relu(h)))), [h]


@motif("latent_list", free={"fc": 48, "conv": 12, "style": 24})
class LatentList(nn.Module):
    """A list of latents, a one-hot label map concatenated over space, labels embedded."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.fc, self.style = nn.Linear(6, 4 * c), nn.Linear(6, 2 * c)
        self.embed = nn.Embedding(4, 5)
        self.conv, self.out = nn.Conv2d(c + 5, c, 3, padding=1), nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return ([torch.randn(2, 6), torch.randn(2, 6)], torch.tensor([0, 3])), {}

    def forward(self, latents: list[Tensor], y: Tensor) -> Tensor:
        h = F.relu(self.fc(latents[0])).reshape(y.shape[0], -1, 2, 2)
        label = self.embed(y)[:, :, None, None].expand(-1, -1, 2, 2)
        h = self.conv(torch.cat([h, label], 1))
        mean, gain = torch.tensor_split(self.style(latents[1])[:, :, None, None], 2, dim=1)
        return self.out(F.relu(h * gain + mean))


@motif("writes_its_input", free=FREE)
class WritesItsInput(Simple):
    """The input is rescaled in place, as old super-resolution code does."""

    def example(self) -> Example:
        return (torch.rand(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        x *= 2.0
        x -= 0.5
        return self.image(x) / 2
