"""Which numbers of a file are black and white: every source is brought to [-1, 1] here."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gancompress.errors import ConfigError, DataError

Range = tuple[float, float]

FULL: dict[torch.dtype, Range] = {
    torch.bool: (0.0, 1.0),
    torch.uint8: (0.0, 255.0),
    torch.uint16: (0.0, 65535.0),
}
"""Ranges that a type has by itself; floats and signed integers have none and must be told."""

SLACK = 1e-3  # of the range: what resampling and float16 files overshoot by


def checked_range(values: object) -> Range | None:
    """Return ``values`` as (low, high), or ``None``.

    Raises:
        ConfigError: it is no pair of finite numbers in rising order.
    """
    if values is None:
        return None
    try:
        low, high = (float(v) for v in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(
            f"values must be two finite numbers (black, white), rising; found {values!r}"
        )
    return low, high


def range_of(dtype: torch.dtype, values: Range | None, what: str, found: str = "") -> Range:
    """Return the range of raw numbers of ``dtype``: ``values`` if given, else that of the type.

    Raises:
        DataError: floats or signed integers without ``values``; a guess would be silent.
    """
    if values is not None:
        return values
    if dtype in FULL:
        return FULL[dtype]
    name = str(dtype).removeprefix("torch.")
    raise DataError(
        f"{what} must be uint8 (0..255) or uint16, or values=(black, white) must say their range, "
        f"for example values=(0, 1); found {name}{found}"
    )


def to_unit(raw: Tensor, values: Range, what: str = "the pictures") -> Tensor:
    """Return float32 of the shape of ``raw`` with ``values`` mapped to [-1, 1].

    Raises:
        DataError: numbers outside ``values``, or not finite.
    """
    if raw.dtype == torch.uint8 and values == FULL[torch.uint8]:
        return raw.to(torch.float32).div_(127.5).sub_(1.0)
    low, high = values
    # float64 on the way: 65535 steps and offsets of sensors need more than 24 bits.
    images = raw.to(torch.float64).sub_(low).mul_(2.0 / (high - low)).sub_(1.0).to(torch.float32)
    if raw.dtype not in FULL or values != FULL[raw.dtype]:
        _check(images, raw, values, what)
    return images.clamp_(-1.0, 1.0)


def _check(images: Tensor, raw: Tensor, values: Range, what: str) -> None:
    if not torch.isfinite(images).all():
        raise DataError(f"{what} hold NaN or infinite numbers")
    if images.numel() and float(images.abs().max()) > 1.0 + 2.0 * SLACK:
        raw = raw.to(torch.float64)
        raise DataError(
            f"{what} lie in [{float(raw.min()):.4g}, {float(raw.max()):.4g}], outside "
            f"values=({values[0]:g}, {values[1]:g}); say their range by values=(black, white)"
        )


def tensor_of(array: np.ndarray) -> Tensor:
    """Return a tensor of a copy of ``array``: native byte order, and never a view of a file.

    Raises:
        DataError: a type that has no tensor (strings, complex numbers, objects).
    """
    if array.dtype.kind not in "buif":
        raise DataError(f"expected numbers; found {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def span(array: np.ndarray) -> str:
    """Return `` in [low, high]`` of at most the first million numbers, for a message."""
    if not array.size or array.dtype.kind not in "fiu":
        return ""
    rows = max(1, 1_000_000 * len(array) // array.size)
    part = np.asarray(array[:rows])
    return f" in [{part.min():.3g}, {part.max():.3g}]"
