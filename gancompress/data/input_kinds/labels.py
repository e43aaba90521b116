"""``y=labels(10)``: class numbers, and ``c=onehot(10)``: the same as rows of zeros and a one."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gancompress.data.input_kinds.protocol import (
    INPUT_KINDS,
    LARGEST_SAMPLE,
    Drawn,
    whole_numbers,
)
from gancompress.errors import ConfigError


def _classes(text: str, kind: str) -> int:
    numbers = whole_numbers(text)
    if len(numbers) != 1:
        raise ConfigError(f"{kind} take one number, the count of classes")
    if not 1 <= numbers[0] <= LARGEST_SAMPLE:
        raise ConfigError(f"classes must be at least 1, and {LARGEST_SAMPLE:,} at most")
    return numbers[0]


@INPUT_KINDS.register("labels")
def labels(text: str) -> Drawn:
    """Return int64 class numbers (n,) in 0..k-1."""
    k = _classes(text, "labels")
    return Drawn(
        (), lambda n, rng: torch.randint(k, (n,), generator=rng, device=rng.device), n_classes=k
    )


@INPUT_KINDS.register("onehot")
def onehot(text: str) -> Drawn:
    """Return float32 rows (n, k), all 0 but a 1 at the class."""
    k = _classes(text, "onehot labels")
    numbers = labels(text)
    return Drawn(
        (k,),
        lambda n, rng: F.one_hot(numbers.draw(n, rng), k).float(),
        n_classes=k,
        one_hot=True,
    )
