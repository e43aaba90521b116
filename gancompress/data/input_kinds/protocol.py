"""What an input kind returns, and how it reads the text inside of its parentheses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gancompress.errors import ConfigError
from gancompress.registry import Registry

INPUT_KINDS = Registry("input kind")
"""Name of a kind -> function of the text inside of its parentheses."""

LARGEST_SAMPLE = 2**26
"""Numbers in one sample (a quarter of a GiB in float32): beyond it, sizes are a typing error."""


@dataclass(frozen=True)
class Drawn:
    """An input that a random generator makes (ours).

    Attributes:
        shape: of one sample.
        draw: ``draw(n, rng)`` returns a tensor (n, *shape) on the device of ``rng``.
        n_classes: when it holds classes: their number.
        one_hot: the classes are rows of zeros and a one.
        noise: it is random floats, as latents are.
    """

    shape: tuple[int, ...]
    draw: Callable[[int, torch.Generator], Tensor]
    n_classes: int | None = None
    one_hot: bool = False
    noise: bool = False


class Stored(Protocol):
    """An input read from files, one sample a file or a row (ours)."""

    @property
    def names(self) -> list[str]:
        """Name of each sample, by which the files of several inputs are joined."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        ...

    def read(self, indices: Tensor) -> Tensor:
        """Return the samples (len(indices), *shape) of these places in ``names``."""
        ...


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read ``"3, 64,64"``.

    Raises:
        ConfigError: something else stands there.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.removeprefix("-").isdecimal() and word.isascii() for word in words):
        raise ConfigError(f"sizes are whole numbers with commas, all at least 1; not {text!r}")
    return tuple(int(word) for word in words)


def sizes(text: str) -> tuple[int, ...]:
    """Read the shape of one sample.

    Raises:
        ConfigError: a size below 1, or more numbers than any input has.
    """
    return checked(whole_numbers(text))


def checked(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``shape``, refused before any memory is taken when it cannot be meant.

    Raises:
        ConfigError: a size below 1, or more than `LARGEST_SAMPLE` numbers.
    """
    if any(size < 1 for size in shape) or math.prod(shape) > LARGEST_SAMPLE:
        raise ConfigError(
            f"sizes must be at least 1, and {LARGEST_SAMPLE:,} numbers a sample at most; "
            f"{', '.join(map(str, shape))} make {math.prod(shape):,}"
        )
    return shape
