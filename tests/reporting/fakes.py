"""A tiny conditional generator and its sampler."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TinyGenerator(nn.Module):
    """Latents (n, 8) and labels (n,) to grey images (n, 1, 8, 8); batch norm shows a wrong mode."""

    def __init__(self, channels: int = 1, width: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 8)
        self.first = nn.Linear(8, width * 64)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        self.width = width

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.first(z + self.embed(y)).view(-1, self.width, 8, 8)
        return torch.tanh(self.last(torch.relu(self.norm(h))))


class TinySampler:
    """Draws z and y; ``labelled=False`` hides the label from its reader."""

    def __init__(self, labelled: bool = True) -> None:
        self.labelled = labelled

    def __call__(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        return torch.randn(n, 8, generator=rng), torch.randint(0, 4, (n,), generator=rng)

    def labels(self, inputs: Sequence[Tensor]) -> Tensor | None:
        return inputs[1] if self.labelled else None
