"""Straight-through estimator."""

from __future__ import annotations

from torch import Tensor

from gancompress.masks.relax import RELAXATIONS


@RELAXATIONS.register("ste", hard_from=0.0)
def straight_through(scores: Tensor, progress: float) -> Tensor:
    """Hard gate ``scores > 0`` whose gradient passes straight through (Bengio et al. 2013).

    The score then integrates the task's gradient of its gate, so it stays high where the loss needs
    the channel and sinks under the penalty where it does not.
    """
    hard = (scores > 0).to(scores.dtype)
    return hard + (scores - scores.detach())
