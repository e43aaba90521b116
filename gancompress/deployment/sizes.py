"""Which dimensions of an exported file stay free, and the other sizes that it is checked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gancompress.errors import ConfigError, closest

BATCHES = (1, 3, 8)
"""Batch sizes on which an exported file must agree with the generator."""

Dims = tuple[frozenset[int], ...]


@dataclass(frozen=True)
class Variant:
    """The same call at other sizes (ours)."""

    name: str
    tensors: tuple[Tensor, ...]


def read_dynamic(
    words: Sequence[str] | None, names: Sequence[str], tensors: Sequence[Tensor], rows: int
) -> Dims:
    """Return the free dimensions of each input, from words such as ``x=0,2,3``.

    An input that no word names has a free batch; ``none`` frees nothing, ``x=`` nothing of ``x``.

    Raises:
        ConfigError: an input or a dimension that is not there, or an input twice.
    """
    free = [frozenset({0} if t.dim() and t.shape[0] == rows else ()) for t in tensors]
    if words and "none" in words:
        if len(words) > 1:
            raise ConfigError("--dynamic none frees nothing: leave the others out")
        return tuple(frozenset[int]() for _ in tensors)
    named: set[str] = set()
    for word in words or ():
        name, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"--dynamic {word!r} is not NAME=0,2,3 or none")
        if name not in names:
            raise ConfigError(f"--dynamic: no input {name!r}.{closest(name, names)}")
        if name in named:
            raise ConfigError(
                f"--dynamic names {name} twice: write all of its dimensions in one, {name}=0,2,3"
            )
        named.add(name)
        place = list(names).index(name)
        count = tensors[place].dim()
        dims: set[int] = set()
        for part in filter(None, (p.strip() for p in text.split(","))):
            if not part.removeprefix("-").isdecimal() or not -count <= int(part) < count:
                shape = tuple(tensors[place].shape)
                raise ConfigError(
                    f"--dynamic {word!r}: {name} has shape {shape} and no dimension {part!r}"
                )
            dims.add(int(part) % count)
        free[place] = frozenset(dims)
    return tuple(free)


def space_of(names: Sequence[str], tensors: Sequence[Tensor]) -> list[str]:
    """Return the words that free the batch and the space of inputs (n, c, *space), if any are."""
    return [
        f"{name}={','.join(map(str, (0, *range(2, t.dim()))))}"
        for name, t in zip(names, tensors, strict=True)
        if t.dim() > 2 and t.is_floating_point() and max(t.shape[2:]) > 1
    ]


def at_least_two(tensors: Sequence[Tensor], dims: Dims) -> tuple[Tensor, ...]:
    """Return ``tensors`` with free dimensions of size 1 doubled: export takes 1 for a constant."""
    return tuple(
        _sized(t, {d: max(t.shape[d], 2) for d in free})
        for t, free in zip(tensors, dims, strict=True)
    )


def batches(tensors: Sequence[Tensor], dims: Dims) -> list[Variant]:
    """Return the call in batches of other sizes; nothing where no batch is free."""
    if not any(0 in free for free in dims):
        return []
    made = []
    for n in BATCHES:
        rows = tuple(_sized(t, {0: n} if 0 in f else {}) for t, f in zip(tensors, dims))
        made.append(Variant(f"batch {n}", rows))
    return made


def other_sizes(tensors: Sequence[Tensor], dims: Dims) -> list[Variant]:
    """Return the call at other heights, widths or lengths: twice, one and a half, half, and uneven.

    Several inputs change by the same factor. Nothing where only batches are free.
    """
    inner = [free - {0} for free in dims]
    if not any(inner):
        return []

    def scaled(name: str, factors: Sequence[float]) -> Variant:
        parts = []
        for t, free in zip(tensors, inner, strict=True):
            sizes = {}
            for place, d in enumerate(sorted(free)):
                factor = factors[min(place, len(factors) - 1)]
                sizes[d] = max(1, round(t.shape[d] * factor))
            parts.append(_sized(t, sizes))
        return Variant(name, tuple(parts))

    made = [scaled("twice", (2.0,)), scaled("1.5 times", (1.5,)), scaled("half", (0.5,))]
    if any(len(free) > 1 for free in inner):
        made.append(scaled("twice by 1", (2.0, 1.0)))
    return made


def _sized(t: Tensor, sizes: dict[int, int]) -> Tensor:
    """Return ``t`` at other sizes: cut, or begun again where it ends."""
    for d, size in sizes.items():
        if size != t.shape[d]:
            t = t.index_select(d, torch.arange(size, device=t.device) % t.shape[d])
    return t
