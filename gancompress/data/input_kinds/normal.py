"""``z=normal(128)``: standard normal noise."""

from __future__ import annotations

import torch

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Drawn, sizes


@INPUT_KINDS.register("normal")
def normal(text: str) -> Drawn:
    """Return N(0, 1) of shape (n, *sizes)."""
    shape = sizes(text)
    return Drawn(
        shape,
        lambda n, rng: torch.randn(n, *shape, generator=rng, device=rng.device),
        noise=True,
    )
