"""Running mean of a map for each class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ClassBank(nn.Module):
    """Moving average over training steps of one row (m,) a class, for the classes met (ours)."""

    rows: Tensor
    seen: Tensor

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", torch.zeros(0, 0))
        self.register_buffer("seen", torch.zeros(0, dtype=torch.bool))

    def forward(self, classes: Tensor, means: Tensor) -> Tensor:
        """Mix in the batch's ``means`` (j, m) of distinct ``classes`` (j,); return the rows (j, m).

        The value is the moving average, the gradient that of the batch mean alone, unscaled. The
        bank itself changes in training mode only; a class met for the first time starts from its
        batch mean.
        """
        self._grow(int(classes.max()) + 1, means)
        old = torch.where(self.seen[classes, None], self.rows[classes], means.detach())
        mixed = self.momentum * old + (1 - self.momentum) * means.detach()
        if self.training:
            self.rows[classes] = mixed
            self.seen[classes] = True
        return mixed + (means - means.detach())

    def _grow(self, count: int, like: Tensor) -> None:
        if self.rows.device != like.device or self.rows.dtype != like.dtype:
            self.rows = self.rows.to(like.device, like.dtype)
            self.seen = self.seen.to(like.device)
        missing = count - self.rows.shape[0]
        if missing > 0:
            rows = self.rows.reshape(-1, like.shape[1])
            self.rows = torch.cat([rows, rows.new_zeros(missing, like.shape[1])])
            self.seen = torch.cat([self.seen, self.seen.new_zeros(missing)])

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        state_dict, prefix = args[:2]
        # The bank has as many rows as classes were met: take the size of what was saved.
        for name in ("rows", "seen"):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor):
                own: Tensor = getattr(self, name)
                setattr(self, name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(*args, **kwargs)


def class_means(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct labels (j,) and the mean of ``rows`` (n, m) over each, (j, m)."""
    classes, place = labels.unique(return_inverse=True)
    sums = rows.new_zeros(classes.numel(), rows.shape[1]).index_add(0, place, rows)
    counts = torch.bincount(place, minlength=classes.numel()).to(rows.dtype)
    return classes, sums / counts[:, None]
