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

    def forward(self, classes: Tensor, means: Tensor, host: Tensor | None = None) -> Tensor:
        """Mix in the batch's ``means`` (n, m) of ``classes`` (n,); return the rows (n, m).

        Samples of one class have the same mean, as `class_means` returns them. The value is the
        moving average, the gradient that of the batch mean alone, unscaled. The bank itself changes
        in training mode only; a class met for the first time starts from its batch mean. ``host``
        are classes on the host, these at least; without, a device is asked.
        """
        # Only the host can say how many rows there are: asking a device would mean to wait for it.
        self._grow(int((classes if host is None else host).max()) + 1, means)
        old = torch.where(self.seen[classes, None], self.rows[classes], means.detach())
        mixed = self.momentum * old + (1 - self.momentum) * means.detach()
        if self.training:
            self.rows[classes] = mixed
            self.seen.index_fill_(0, classes, True)
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
    """Return for each sample the mean of ``rows`` (n, m) over its class, and its share (n,).

    Shares add up to 1, and so do those of each class to the same number. No value is looked at, so
    that a device need not be waited for.
    """
    same = labels[:, None] == labels[None]
    first = same.to(torch.uint8).argmax(1)  # of several largest the first
    counts = same.sum(1).to(rows.dtype)
    sums = torch.zeros_like(rows).index_add(0, first, rows)
    share = 1 / counts
    return (sums / counts[:, None])[first], share / share.sum()
