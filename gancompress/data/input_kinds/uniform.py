"""``x=uniform(3,64,64)``: uniform noise in [-1, 1]."""

from __future__ import annotations

import torch

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Drawn, sizes


@INPUT_KINDS.register("uniform")
def uniform(text: str) -> Drawn:
    """Return U(-1, 1) of shape (n, *sizes)."""
    shape = sizes(text)
    return Drawn(
        shape,
        lambda n, rng: torch.rand(n, *shape, generator=rng, device=rng.device) * 2 - 1,
        noise=True,
    )
