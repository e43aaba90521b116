"""``tokens=integers(0,1000,16)``: whole numbers, for example codes or tokens."""

from __future__ import annotations

import torch

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Drawn, checked, whole_numbers
from gancompress.errors import ConfigError


@INPUT_KINDS.register("integers")
def integers(text: str) -> Drawn:
    """Return int64 numbers (n, *sizes), ``low`` included and ``high`` not: (low, high, *sizes)."""
    numbers = whole_numbers(text)
    if len(numbers) < 2 or numbers[0] >= numbers[1]:
        raise ConfigError("integers take the least number, the first too large one, and sizes")
    low, high, shape = numbers[0], numbers[1], checked(numbers[2:])
    if max(abs(low), abs(high)) > 2**62:
        raise ConfigError(f"integers from {low} to {high} do not fit into 64 bits")
    return Drawn(
        shape,
        lambda n, rng: torch.randint(low, high, (n, *shape), generator=rng, device=rng.device),
    )
