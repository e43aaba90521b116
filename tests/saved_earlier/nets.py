"""The network behind the folders here, which version 0.1.0 wrote: they must load for ever.

``model`` was cut live and at the end; ``run`` was stopped after a live cut, ``after`` is its end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

OPTIONS = [
    "target=params=1.5x", "distill=[{name: pixel, weight: 1.0}]", "steps=8", "finetune_steps=2",
    "batch=4", "precision=float32", "shrink.events=[0.5]", "schedule.end=0.9",
    "checkpoint_every=100", "sample_every=0", "channels_last=false",
]  # fmt: skip


class Early(nn.Module):
    """Latents (n, 5) to pictures (n, 1, 2, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Linear(12, 10)
        self.c = nn.Linear(10, 4)

    def forward(self, z: Tensor) -> Tensor:
        h = self.b(self.norm(self.a(z)).relu()).relu()
        return torch.tanh(self.c(h)).view(-1, 1, 2, 2)

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.randn(n, 5, generator=rng),)


def early() -> Early:
    torch.manual_seed(0)
    return Early()
