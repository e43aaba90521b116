"""What a relaxation is: a differentiable surrogate of the 0/1 choice of a channel.

They live in `gancompress.masks.relaxations`. ``@RELAXATIONS.register("mine", hard_from=0.5)`` says
from which progress on the gates are 0 or 1 in the forward, so that the masks can come to rest; left
out, they are so at the end only.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gancompress.plugins.kinds import RELAXATIONS as RELAXATIONS

Relaxation = Callable[[Tensor, float], Tensor]
"""(scores (c,), progress in [0, 1]) -> gate values in [0, 1], shape (c,)."""


def band(progress: float) -> float:
    """Half-width of DMAD's band: 1 at the start, 0 from three quarters on (Li et al. 2020)."""
    return max(0.0, 1 - (min(progress, 0.75) / 0.75) ** (1 / 3))
