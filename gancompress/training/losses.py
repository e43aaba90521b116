"""What an adversarial loss is: a pair of losses on discriminator logits.

They live in `gancompress.training.adversarial`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gancompress.plugins.kinds import ADVERSARIAL as ADVERSARIAL


@dataclass(frozen=True)
class AdversarialLoss:
    """A pair of losses, both scalars to minimise (ours).

    ``discriminator(real_logits, fake_logits)`` and ``generator(fake_logits)`` take logits of any
    shape.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
