"""Slicing, splitting and joining: index or concatenate the atom arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gancompress.graph.atoms import Dim, Dims, Factor, dim_size, join_zero, opaque
from gancompress.graph.rules.base import rule
from gancompress.graph.tracer import Op


def take(op: Op, dim: Dim, index: np.ndarray | slice) -> Dim:
    """Return the indexed part of a dimension."""
    if not dim:
        return ()
    flat = op.space.flat(dim, op.reason("sliced"))
    if flat.atoms is None:
        size = len(np.arange(flat.size)[index])
        return opaque(size, flat.why)
    atoms = flat.atoms[index]
    if len(atoms) == 1:
        # One channel picked by position: it has no factor of its own, so it cannot move.
        op.space.freeze(atoms, op.reason("a single channel picked by its position"))
        return ()
    return (Factor(len(atoms), atoms, flat.zero),)


def _slice_outer(op: Op, dim: Dim, start: int, stop: int, step: int) -> Dim:
    """Slice a dimension; a block of whole inner factors keeps its factorisation."""
    if len(dim) > 1 and step == 1:
        inner = dim_size(dim[1:])
        if start % inner == 0 and stop % inner == 0:
            return (*take(op, dim[:1], slice(start // inner, stop // inner)), *dim[1:])
    return take(op, dim, slice(start, stop, step))


@rule("slice", "slice_copy", "narrow", "narrow_copy")
def slice_(op: Op) -> Dims:
    """x[..., start:stop:step]."""
    x = op.args[0]
    dims, at = list(op.dims(x)), op.args[1] % x.dim()
    n = x.shape[at]
    if op.name.startswith("narrow"):
        start, stop, step = op.args[2], op.args[2] + op.args[3], 1
    else:
        start, stop, step = slice(op.args[2], op.args[3], op.args[4]).indices(n)
    if (start, stop, step) == (0, n, 1):
        return tuple(dims)
    if dims[at] and step == 1:
        whole = op.space.flat(dims[at], op.reason("sliced"))
        if whole.atoms is not None:
            op.tracer.slices.append((whole.atoms, start, stop))
            op.pins.append(whole.atoms[: stop if stop < n else start])
    dims[at] = _slice_outer(op, dims[at], start, stop, step)
    return tuple(dims)


def tie_pieces(op: Op, pieces: Sequence[Dim], text: str) -> None:
    """Equal pieces of one dimension must stay equal: tie them position by position."""
    first = pieces[0]
    for other in pieces[1:]:
        if dim_size(other) != dim_size(first):
            op.freeze(tuple(pieces), f"{text} into unequal pieces")
            return
    for other in pieces[1:]:
        op.space.tie_dims(first, other, op.reason(text))


@rule("split", "unsafe_split", "split_copy", "chunk", "split_with_sizes",
      "unsafe_split_with_sizes", "split_with_sizes_copy", "tensor_split")  # fmt: skip
def split(op: Op) -> list[Dims]:
    """torch.split and chunk: equal pieces lose the same positions, so that they stay equal."""
    x = op.args[0]
    dims, at = list(op.dims(x)), (op.args[2] or 0) % x.dim()
    pieces, start = [], 0
    for out in op.outs:
        stop = start + out.shape[at]
        pieces.append(_slice_outer(op, dims[at], start, stop, 1))
        start = stop
    sizes = {out.shape[at] for out in op.outs}
    if "sizes" not in op.name and len(op.outs) > 1:
        tie_pieces(op, pieces, "split")
    elif len(sizes) == 1 and len(op.outs) > 1:
        # Sizes given one by one may come from Python numbers; equal ones are kept equal.
        tie_pieces(op, pieces, "split")
    return [tuple(piece if i == at else d for i, d in enumerate(dims)) for piece in pieces]


@rule("cat", "concat", "concatenate")
def cat(op: Op) -> Dims:
    """Concatenate atom arrays along one dimension, tie the others; copies of one repeat it."""
    tensors = [t for t in op.args[0] if not (t.dim() == 1 and t.shape[0] == 0)]
    at = (op.args[1] or 0) % op.outs[0].dim()
    made: list[Dim] = list(op.dims(tensors[0]))
    if _copies(tensors):
        made[at] = (*_free(op, len(tensors)), *made[at])
        return tuple(made)
    for other in tensors[1:]:
        for i, d in enumerate(op.dims(other)):
            if i != at:
                op.space.tie_dims(made[i], d, op.reason("concatenated beside it"))
                made[i] = made[i] or d
    full = [t for t in tensors if t.shape[at]]
    if full and len(tensors) > 1:
        made = [zero_in_all(d, [op.dims(t)[i] for t in full]) for i, d in enumerate(made)]
    parts = [op.dims(t)[at] for t in tensors]
    if len(tensors) > 1:
        pairs = [(p, t.shape[at]) for p, t in zip(parts, tensors, strict=True) if t.shape[at]]
        made[at] = _join(op, *zip(*pairs, strict=True)) if pairs else parts[0]
    return tuple(made)


def _copies(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all are one tensor, over and over: ``[h] * c`` (a filter for each channel)."""
    return len(tensors) > 1 and all(t is tensors[0] for t in tensors)


def _free(op: Op, size: int) -> Dim:
    """Return indices that all hold the same: they follow whatever meets them."""
    return (Factor(size, op.space.copies(size)),)


def zero_in_all(dim: Dim, parts: Sequence[Dim]) -> Dim:
    """Return ``dim`` with the zeros that hold in every part."""
    if any(len(p) != len(dim) for p in parts):
        return tuple(f.with_zero(None) for f in dim)
    return tuple(f.with_zero(join_zero([p[i].zero for p in parts])) for i, f in enumerate(dim))


def _join(op: Op, parts: Sequence[Dim], sizes: Sequence[int]) -> Dim:
    """Concatenate dimensions into one factor; parts without channels carry atom 0."""
    flats = [op.space.flat(p, op.reason("concatenated")) if p else None for p in parts]
    if all(f is None or f.atoms is None for f in flats):
        return opaque(sum(sizes), "a concatenation of inputs")
    atoms, zeros = [], []
    for flat, n in zip(flats, sizes, strict=True):
        if flat is None or flat.atoms is None:
            atoms.append(np.zeros(n, np.int64))
        else:
            atoms.append(flat.atoms)
            zeros.append(flat.zero)
    joined = np.concatenate(atoms)
    return (Factor(len(joined), joined, join_zero(zeros)),)


@rule("stack")
def stack(op: Op) -> Dims:
    """A new dimension, which holds no channels; of copies of one tensor it is free."""
    tensors = op.args[0]
    made = list(op.dims(tensors[0]))
    at = (op.args[1] or 0) % op.outs[0].dim()
    if _copies(tensors):
        made.insert(at, _free(op, len(tensors)))
        return tuple(made)
    for other in tensors[1:]:
        for i, d in enumerate(op.dims(other)):
            op.space.tie_dims(made[i], d, op.reason("stacked with it"))
            made[i] = made[i] or d
    made.insert(at, opaque(len(tensors), "a stack"))
    return tuple(made)


@rule("flip")
def flip(op: Op) -> Dims:
    """Reverse; the order of what is left is the same."""
    dims = list(op.dims(op.args[0]))
    for at in op.args[1]:
        dims[at] = take(op, dims[at], slice(None, None, -1))
    return tuple(dims)


@rule("roll")
def roll(op: Op) -> Dims:
    """Shift by a fixed number: along channels it would need the number to change."""
    dims = list(op.dims(op.args[0]))
    axes = op.args[2]
    if not axes:
        op.freeze(tuple(dims), "rolled over all dimensions")
    for at, shift in zip(axes or (), op.args[1], strict=False):
        flat = op.space.flat(dims[at], op.reason("rolled")) if dims[at] else None
        if flat is None or flat.atoms is None:
            continue
        # What wraps around must keep its number; the rest keeps its order.
        shift = shift % flat.size if shift >= 0 else -(-shift % flat.size)
        wrapped = flat.atoms[flat.size - shift :] if shift > 0 else flat.atoms[:-shift]
        op.space.freeze(wrapped, op.reason("rolled by a fixed number of channels"))
        dims[at] = (Factor(flat.size, np.roll(flat.atoms, shift), flat.zero),)
    return tuple(dims)


@rule("rot90")
def rot90(op: Op) -> Dims:
    """Quarter turns of two dimensions, which must not be channels."""
    dims = list(op.dims(op.args[0]))
    a, b = op.args[2]
    op.freeze((dims[a], dims[b]), "turned by quarters")
    if op.args[1] % 2:
        dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


@rule("glu")
def glu(op: Op) -> Dims:
    """First half times sigmoid of the second: the halves lose the same positions."""
    x = op.args[0]
    dims, at = list(op.dims(x)), op.args[1] % x.dim()
    half = x.shape[at] // 2
    first = _slice_outer(op, dims[at], 0, half, 1)
    second = _slice_outer(op, dims[at], half, 2 * half, 1)
    op.space.tie_dims(first, second, op.reason("halves of glu"))
    dims[at] = first
    return tuple(dims)


@rule("constant_pad_nd", "pad")
def constant_pad(op: Op) -> Dims:
    """Zero padding: padded channels are new positions that stay."""
    x, pads = op.args[0], op.args[1]
    dims = list(op.dims(x))
    for k in range(len(pads) // 2):
        low, high = pads[2 * k], pads[2 * k + 1]
        at = x.dim() - 1 - k
        if (low, high) == (0, 0):
            continue
        n = op.outs[0].shape[at]
        flat = op.space.flat(dims[at], op.reason("padded")) if dims[at] else None
        if flat is None or flat.atoms is None:
            dims[at] = opaque(n, "padded")
            continue
        left, right = np.zeros(max(low, 0), np.int64), np.zeros(max(high, 0), np.int64)
        body = flat.atoms[max(-low, 0) : flat.size - max(-high, 0)]
        joined = np.concatenate([left, body, right])
        dims[at] = (Factor(n, joined, flat.zero),) if n > 1 else ()
    return tuple(dims)
