"""Convolutions and matrix products as one matrix equation: sampled rows of inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gancompress.surgery.reconstruction.walk import Contraction


@dataclass(frozen=True)
class Geometry:
    """How the operator of a stop reads its input (ours).

    Attributes:
        kind: ``convolution``, ``rows`` (x @ w) or ``columns`` (w @ x).
        groups: of a convolution.
        kernel: its window, and ``stride padding dilation extra`` as torch names them.
        transposed: a transposed convolution, ``extra`` its output padding.
    """

    kind: str
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    transposed: bool = False
    extra: tuple[int, ...] = ()

    @classmethod
    def of(cls, stop: Contraction) -> Geometry:
        """Read the geometry of a stop."""
        name = stop.func._schema.name.split("::")[-1]
        if name != "convolution":
            first = stop.args[0] if name == "mm" else stop.args[1]
            return cls("rows" if first is stop.x else "columns")
        _, w, _, stride, padding, dilation, transposed, extra, groups = stop.args[:9]
        n = w.dim() - 2

        def full(v: Sequence[int]) -> tuple[int, ...]:
            return tuple(v) if len(v) == n else tuple(v) * n

        return cls(
            "convolution", int(groups), tuple(w.shape[2:]), full(stride), full(padding),
            full(dilation), bool(transposed), full(extra) if transposed else (0,) * n,
        )  # fmt: skip

    def matrix(self, w: Tensor) -> Tensor:
        """Return a weight as (groups, outputs of a group, features)."""
        if self.kind == "rows":
            return w.t()[None]
        if self.kind == "columns":
            return w[None]
        g = self.groups
        if not self.transposed:
            return w.reshape(g, w.shape[0] // g, -1)
        flipped = w.flip(tuple(range(2, w.dim()))) if w.dim() > 2 else w
        split = flipped.reshape(g, w.shape[0] // g, *w.shape[1:])
        return split.transpose(1, 2).reshape(g, w.shape[1], -1)

    def weight(self, matrix: Tensor, like: Tensor) -> Tensor:
        """Return what `matrix` was made of; the inverse of it."""
        if self.kind == "rows":
            return matrix[0].t()
        if self.kind == "columns":
            return matrix[0]
        if not self.transposed:
            return matrix.reshape(like.shape)
        g, i = self.groups, like.shape[0] // self.groups
        split = matrix.reshape(g, like.shape[1], i, *like.shape[2:]).transpose(1, 2)
        return split.reshape(like.shape).flip(tuple(range(2, like.dim())))

    def features(self, w: Tensor) -> int:
        """Return how many numbers one output channel reads."""
        return int(self.matrix(w).shape[2])

    def positions(self, out: Tensor) -> tuple[int, ...]:
        """Return the shape of the places of an output: samples and space."""
        if self.kind == "convolution":
            return (out.shape[0], *out.shape[2:])
        return (out.shape[0],) if self.kind == "rows" else (out.shape[1],)


def windows(geometry: Geometry, x: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Return what the operator reads at ``places``: (places, groups, features), in float64."""
    if geometry.kind != "convolution":
        rows = x if geometry.kind == "rows" else x.t()
        return rows[places[0]].double()[:, None]
    stride, dilation, pads = geometry.stride, geometry.dilation, _pads(geometry)
    if geometry.transposed:
        x, stride = _stuffed(x, geometry.stride), (1,) * len(stride)
    x = functional.pad(x, pads).contiguous()
    step = x.stride()
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], geometry.kernel, stride, dilation, strict=True)
    ]
    view = x.as_strided(
        (x.shape[0], *sizes, x.shape[1], *geometry.kernel),
        (
            step[0],
            *(s * t for s, t in zip(stride, step[2:], strict=True)),
            step[1],
            *(d * t for d, t in zip(dilation, step[2:], strict=True)),
        ),
    )
    taken = view[tuple(places)].double()
    return taken.reshape(len(taken), geometry.groups, -1)


def targets(geometry: Geometry, out: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Return the outputs at ``places``: (places, channels), in float64."""
    if geometry.kind == "convolution":
        out = out.movedim(1, -1)
    elif geometry.kind == "columns":
        out = out.t()
    return out[tuple(places)].double()


def chosen_places(shape: Sequence[int], most: int, rng: torch.Generator) -> list[Tensor]:
    """Return at most ``most`` places of ``shape``, as one index tensor a dimension."""
    total = math.prod(shape)
    flat = torch.arange(total) if total <= most else torch.randperm(total, generator=rng)[:most]
    return list(torch.unravel_index(flat, tuple(shape)))


def _pads(geometry: Geometry) -> list[int]:
    pads: list[int] = []
    rows = zip(geometry.kernel, geometry.padding, geometry.dilation, geometry.extra, strict=True)
    for k, p, d, extra in reversed(list(rows)):
        before = d * (k - 1) - p if geometry.transposed else p
        pads += [before, before + extra]
    return pads


def _stuffed(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Return the input of a transposed convolution with zeros between its pixels."""
    if all(s == 1 for s in stride):
        return x
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *sizes)
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in stride))] = x
    return wide
