"""Picking and writing by position: what is indexed keeps its channels, the rest passes."""

from __future__ import annotations

import torch

from gancompress.graph.atoms import Dim, Dims, opaque
from gancompress.graph.rules.base import rule
from gancompress.graph.rules.slicing import zero_in_all
from gancompress.graph.tracer import Op


@rule("select", "select_copy")
def select(op: Op) -> Dims:
    """x[..., i]: the position is fixed, so channels may not be picked this way."""
    x = op.args[0]
    at = op.args[1] % x.dim()
    dims = list(op.dims(x))
    i = int(op.args[2])
    flat = op.space.flat(dims[at], op.reason("picked")) if dims[at] else None
    if flat is not None and flat.atoms is not None:
        # Index i keeps its meaning when everything up to it stays.
        before = flat.atoms[: i + 1] if i >= 0 else flat.atoms[i:]
        op.tracer.pick(op.outs[0], before, op.reason("an index of it is picked by position"))
    del dims[at]
    return tuple(dims)


@rule("unbind", "unbind_copy")
def unbind(op: Op) -> list[Dims]:
    """Separate along one dimension, which must not be channels."""
    x = op.args[0]
    at = op.args[1] % x.dim()
    dims = list(op.dims(x))
    op.freeze(dims[at], "unbound index by index")
    del dims[at]
    return [tuple(dims) for _ in op.outs]


@rule("index_select")
def index_select(op: Op) -> Dims:
    """Pick by an index tensor: the picked dimension must keep its positions."""
    x = op.args[0]
    at = op.args[1] % max(x.dim(), 1)
    dims = list(op.dims(x))
    op.freeze(dims[at], "picked by an index tensor")
    dims[at] = opaque(op.outs[0].shape[at], "picked by an index tensor")
    return tuple(dims)


@rule("gather", "scatter", "scatter_add", "scatter_reduce")
def gather(op: Op) -> Dims:
    """Pick or write along one dimension, by an index for every element.

    Other dimensions pass where one index was expanded over them, as over the channels of a token.
    """
    x, at, index = op.args[0], op.args[1] % max(op.args[0].dim(), 1), op.args[2]
    # Written: (x, values); picked: (x,).
    values = [v for v in op.args[3:4] if op.name != "gather" and isinstance(v, torch.Tensor)]
    made: list[Dim] = []
    for d, n in enumerate(op.outs[0].shape):
        columns = [op.dims(t)[d] for t in (x, index, *values)]
        same = all(t.shape[d] == x.shape[d] for t in (index, *values))
        if d != at and same and (n == 1 or index.stride(d) == 0):
            for other in columns[1:]:
                op.space.tie_dims(columns[0], other, op.reason("one index for all of them"))
            zeros = [columns[0], *columns[2:]]
            made.append(zero_in_all(columns[0], zeros))
        else:
            op.freeze(tuple(columns), f"{op.name} takes positions")
            made.append(opaque(n, "picked by an index tensor"))
    return tuple(made)


@rule("index")
def index(op: Op) -> Dims:
    """Advanced indexing: indexed dimensions stay, the others pass."""
    x, indices = op.args[0], op.args[1]
    dims = op.dims(x)
    used: list[int] = []
    at = 0
    for t in indices:
        taken = t.dim() if isinstance(t, torch.Tensor) and t.dtype == torch.bool else 1
        if isinstance(t, torch.Tensor):
            used += range(at, at + taken)
        at += taken
    # A mask of booleans picks a list of places, whatever its own shape.
    wide = max(
        1 if t.dtype == torch.bool else t.dim() for t in indices if isinstance(t, torch.Tensor)
    )
    for i in used:
        op.freeze(dims[i], "picked by an index tensor")
    rest = [d for i, d in enumerate(dims) if i not in used]
    # torch puts the picked dimension first when others lie between the indexed ones.
    first = used[0] if used and used == list(range(used[0], used[-1] + 1)) else 0
    new = [opaque(n, "indexed") for n in op.outs[0].shape[first : first + wide]]
    return (*rest[:first], *new, *rest[first:])


@rule("embedding")
def embedding(op: Op) -> Dims:
    """Rows of a table: the entries stay, the width passes."""
    table, ids = op.args[0], op.args[1]
    dims = op.dims(table)
    op.freeze(dims[0], "entries of an embedding table")
    return (*op.dims(ids), dims[1])


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(op: Op) -> list[Dims]:
    """Sums or means of rows of a table, and which rows they were."""
    dims = op.dims(op.args[0])
    op.freeze(dims[0], "entries of an embedding table")
    bags, *rest = op.blank("which entries a bag holds")
    if op.args[4] == 2:  # mode="max" also gives, for each channel, the entry that it took
        op.freeze(dims[1], "the largest entries of a bag, channel by channel")
    return [(*bags[:-1], dims[1]), *rest]


@rule("slice_scatter", "select_scatter", "index_put", "index_add",
      "index_copy", "masked_fill", "masked_scatter", "index_fill")  # fmt: skip
def write(op: Op) -> Dims:
    """Writing into part of a tensor: masked_fill is pointwise, the rest keeps its channels."""
    x = op.args[0]
    if op.name.startswith("masked_fill"):
        mask = op.args[1]
        for k in range(1, mask.dim() + 1):
            if mask.shape[-k] == x.shape[-k]:
                op.space.tie_dims(op.dims(x)[-k], op.dims(mask)[-k], op.reason("masked"))
        return tuple(tuple(f.with_zero(None) for f in d) for d in op.dims(x))
    for t in op.ins:
        op.freeze(op.dims(t), f"{op.name} writes by position")
    return op.blank(f"{op.name}")[0]
