"""Samples of finite data: most are trained on, some never are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gancompress.data.order import batch_indices, stream
from gancompress.errors import ConfigError, DataError
from gancompress.tasks.protocol import Draw

MOST = 2000
"""Samples held out at most: enough to measure on."""


@dataclass(frozen=True)
class Split:
    """Which of ``length`` samples train, and which are only measured on (ours).

    The choice is a function of ``seed``; ``share`` of them, at least one and at most `MOST`, are
    held out, 0 holds out none and measures on the samples that train.

    Raises:
        ConfigError: ``share`` is not in [0, 1).
        DataError: too few samples.
    """

    length: int
    seed: int
    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"held_out is {self.share}; it is a share in [0, 1)")
        if self.length < 2:
            raise DataError(f"the data holds {self.length} samples; training needs two at least")

    @property
    def held(self) -> int:
        """How many are held out."""
        if self.share == 0:
            return 0
        return min(MOST, self.length // 2, max(1, round(self.share * self.length)))

    def training(self, draw: Draw) -> Tensor:
        """Return the indices (n / parts,) of a training batch: each once before any comes again."""
        picked = batch_indices(
            self.length - self.held, batch=draw.n, seed=self.seed, step=draw.number
        )
        return self._order()[self.held + draw.rows(picked)]

    def held_out(self, n: int) -> Tensor:
        """Return at most ``n`` indices that no training batch holds, always the same."""
        return self._order()[: min(n, self.held or self.length)]

    def _order(self) -> Tensor:
        return torch.randperm(self.length, generator=stream(self.seed, "split"))
