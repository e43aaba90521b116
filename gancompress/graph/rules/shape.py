"""Views and permutations: factor lists make merging, splitting and moving dimensions exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gancompress.graph.atoms import Dim, Dims, Factor, dim_size, opaque
from gancompress.graph.rules.base import rule
from gancompress.graph.tracer import Op


def regroup(op: Op, dims: Dims, sizes: Sequence[int]) -> Dims:
    """View ``dims`` as ``sizes`` (row-major): factors move whole, or split at a boundary inside."""
    if 0 in sizes:
        return _empty(dims, sizes)
    queue = [f for d in dims for f in d]
    made: list[Dim] = []
    for size in sizes:
        need, taken = size, []
        while need > 1:
            factor = queue.pop(0)
            if need % factor.size == 0:
                taken.append(factor)
                need //= factor.size
            elif factor.size % need == 0:
                first, rest = op.space.split(
                    factor, (need, factor.size // need), op.reason("view splits the channels")
                )
                taken.append(first)
                queue.insert(0, rest)
                need = 1
            else:
                op.freeze(dims, f"view to {list(sizes)} cuts across the channels")
                return tuple(opaque(n, "a view across channels") for n in sizes)
        made.append(tuple(taken))
    return tuple(made)


def _empty(dims: Dims, sizes: Sequence[int]) -> Dims:
    """View a tensor without elements: equal sizes around the dimension of size 0 are the same."""
    made: list[Dim] = [opaque(n, "a view of nothing") for n in sizes]
    for order in (1, -1):
        for i in range(len(sizes))[::order]:
            at = i if order == 1 else i - len(sizes)
            if sizes[i] == 0 or not -len(dims) <= at < len(dims) or dim_size(dims[at]) != sizes[i]:
                break
            made[i] = dims[at]
    return tuple(made)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy", "view_copy",
      "unflatten", "flatten")  # fmt: skip
def view(op: Op) -> Dims:
    """Merge and split dimensions."""
    return regroup(op, op.dims(op.args[0]), op.outs[0].shape)


@rule("permute", "permute_copy")
def permute(op: Op) -> Dims:
    """Reorder dimensions."""
    dims = op.dims(op.args[0])
    return tuple(dims[d] for d in op.args[1])


@rule("transpose", "transpose_copy", "swapaxes", "swapdims")
def transpose(op: Op) -> Dims:
    """Swap two dimensions."""
    dims = list(op.dims(op.args[0]))
    if dims:
        a, b = op.args[1], op.args[2]
        dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


@rule("t", "t_copy", "numpy_T", "adjoint", "mT")
def matrix_transpose(op: Op) -> Dims:
    """Swap the last two dimensions."""
    dims = list(op.dims(op.args[0]))
    if len(dims) > 1:
        dims[-1], dims[-2] = dims[-2], dims[-1]
    return tuple(dims)


@rule("squeeze", "squeeze_copy")
def squeeze(op: Op) -> Dims:
    """Drop size-1 dimensions."""
    # Not the argument's own shape: squeeze_ has changed it by now.
    dims, which = op.dims(op.args[0]), op.args[1] if len(op.args) > 1 else None
    if which is None:
        chosen = set(range(len(dims)))
    else:
        listed = which if isinstance(which, (list, tuple)) else [which]
        chosen = {d % max(len(dims), 1) for d in listed}
    return tuple(d for i, d in enumerate(dims) if not (i in chosen and dim_size(d) == 1))


@rule("unsqueeze", "unsqueeze_copy")
def unsqueeze(op: Op) -> Dims:
    """Add a size-1 dimension."""
    dims, at = list(op.dims(op.args[0])), op.args[1]
    dims.insert(at + len(dims) + 1 if at < 0 else at, ())
    return tuple(dims)


@rule("expand", "expand_copy", "broadcast_to")
def expand(op: Op) -> Dims:
    """Broadcast size-1 dimensions: the new indices are free, they follow whatever meets them."""
    x, out = op.args[0], op.outs[0]
    dims: Dims = ((),) * (out.dim() - x.dim()) + op.dims(x)
    sizes = (1,) * (out.dim() - x.dim()) + tuple(x.shape)
    return tuple(
        d if sizes[i] == n else _free(op, n)
        for i, (d, n) in enumerate(zip(dims, out.shape, strict=True))
    )


def _free(op: Op, size: int) -> Dim:
    return (Factor(size, op.space.new(size)),) if size != 1 else ()


@rule("repeat", "tile")
def repeat(op: Op) -> Dims:
    """Tile: every copy has the same channels, the number of copies is free."""
    x, out = op.args[0], op.outs[0]
    dims: Dims = ((),) * (out.dim() - x.dim()) + op.dims(x)
    sizes = (1,) * (out.dim() - x.dim()) + tuple(x.shape)
    return tuple(
        (*_free(op, n // max(s, 1)), *d) for d, s, n in zip(dims, sizes, out.shape, strict=True)
    )


@rule("pixel_shuffle")
def pixel_shuffle(op: Op) -> Dims:
    """(C r r, H, W) to (C, H r, W r): the r*r sub-channels of one output channel go together."""
    x, r = op.args[0], int(op.args[1])
    dims = op.dims(x)
    sizes = (*x.shape[:-3], x.shape[-3] // (r * r), r, r, *x.shape[-2:])
    parts = regroup(op, dims, sizes)
    n = x.dim() - 3
    op.freeze(parts[n + 1 : n + 3], "sub-pixels of pixel_shuffle")
    op.freeze(dims[-2:], "space")
    return (*parts[: n + 1], *(opaque(s, "space") for s in op.outs[0].shape[-2:]))


@rule("pixel_unshuffle")
def pixel_unshuffle(op: Op) -> Dims:
    """(C, H r, W r) to (C r r, H, W)."""
    x, r = op.args[0], int(op.args[1])
    dims = op.dims(x)
    op.freeze(dims[-2:], "space")
    sub = opaque(r * r, "sub-pixels of pixel_unshuffle")
    return (*dims[:-3], (*dims[-3], *sub), *(opaque(s, "space") for s in op.outs[0].shape[-2:]))


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(op: Op) -> Dims:
    """View as (groups, C/groups), swap, merge; the number of groups stays."""
    x, groups = op.args[0], int(op.args[1])
    dims = op.dims(x)
    parts = regroup(op, (dims[1],), (groups, x.shape[1] // groups))
    op.freeze(parts[0], "groups of channel_shuffle")
    return (dims[0], (*parts[1], *parts[0]), *dims[2:])


@rule("view_as_real", "view_as_complex", "view_as_real_copy", "view_as_complex_copy")
def complex_view(op: Op) -> Dims:
    """A trailing pair (real, imaginary) appears or goes."""
    dims = op.dims(op.args[0])
    if op.name.startswith("view_as_real"):
        return (*dims, opaque(2, "real and imaginary parts"))
    op.freeze(dims[-1], "real and imaginary parts")
    return dims[:-1]


@rule("unfold")
def unfold(op: Op) -> Dims:
    """Tensor.unfold: windows along one dimension, which must not be channels."""
    dims, at = list(op.dims(op.args[0])), op.args[1]
    op.freeze(dims[at], "windows along it")
    made = [*dims, ()]
    at = at % len(dims)
    made[at] = opaque(op.outs[0].shape[at], "windows")
    made[-1] = opaque(op.outs[0].shape[-1], "windows")
    return tuple(made)


@rule("im2col")
def im2col(op: Op) -> Dims:
    """F.unfold: (N, C, H, W) to (N, C k k, L)."""
    x, out = op.args[0], op.outs[0]
    dims = op.dims(x)
    op.freeze(dims[2:], "space")
    taps = math.prod(op.args[1])
    return (dims[0], (*dims[1], *opaque(taps, "window")), opaque(out.shape[2], "space"))


@rule("col2im")
def col2im(op: Op) -> Dims:
    """F.fold: (N, C k k, L) to (N, C, H, W)."""
    x = op.args[0]
    taps = math.prod(op.args[2])
    parts = regroup(op, (op.dims(x)[1],), (x.shape[1] // taps, taps))
    op.freeze(parts[1], "window of fold")
    op.freeze(op.dims(x)[2], "space")
    return (op.dims(x)[0], parts[0], *(opaque(s, "space") for s in op.outs[0].shape[2:]))
