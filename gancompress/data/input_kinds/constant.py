"""``psi=constant(0.7)``: the same number for each sample."""

from __future__ import annotations

import math

import torch

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Drawn, checked, whole_numbers
from gancompress.errors import ConfigError


@INPUT_KINDS.register("constant")
def constant(text: str) -> Drawn:
    """Return the number in a tensor (n,), or (n, *sizes) for ``constant(0.7,1,1)``.

    It is float32, or int64 for a whole number without a point.
    """
    word, comma, rest = text.partition(",")
    try:
        value: float = int(word) if word.strip().removeprefix("-").isdecimal() else float(word)
    except ValueError:
        raise ConfigError(f"constant takes a number, and sizes if any; not {word!r}") from None
    if not math.isfinite(value) or abs(value) > 2**62:
        raise ConfigError(f"constant takes a finite number, not {word!r}")
    shape = checked(whole_numbers(rest)) if comma else ()
    kind = torch.int64 if isinstance(value, int) else torch.float32
    return Drawn(
        shape, lambda n, rng: torch.full((n, *shape), value, dtype=kind, device=rng.device)
    )
