"""New tensors: constants are free and follow whatever meets them, random and ordered ones stay."""

from __future__ import annotations

import torch

from gancompress.graph.atoms import Dims, Factor
from gancompress.graph.rules.base import rule
from gancompress.graph.tracer import Op


def _free(op: Op) -> list[Dims]:
    return [
        tuple((Factor(n, op.space.new(n)),) if n != 1 else () for n in t.shape) for t in op.outs
    ]


@rule("zeros", "ones", "full", "empty", "empty_strided", "scalar_tensor", "new_zeros", "new_ones",
      "new_full", "new_empty", "new_empty_strided", "empty_permuted", "fill", "zero")  # fmt: skip
def constant(op: Op) -> list[Dims]:
    """A constant has the same value at every index, so its indices are free."""
    if op.name.rstrip("_") in ("fill", "zero") and isinstance(op.args[0], torch.Tensor):
        return [op.dims(op.args[0])]
    return _free(op)


@rule("zeros_like", "ones_like", "full_like", "empty_like")
def constant_like(op: Op) -> Dims:
    """A constant of the shape of another tensor."""
    return tuple(tuple(f.with_zero(None) for f in d) for d in op.dims(op.args[0]))


@rule("rand", "randn", "randint", "randperm", "arange", "linspace", "eye", "tril_indices",
      "triu_indices", "logspace", "range", "hann_window", "hamming_window", "kaiser_window",
      "bartlett_window", "blackman_window")  # fmt: skip
def ordered(op: Op) -> list[Dims]:
    """Random draws and ramps depend on the position: their indices stay."""
    return op.blank("a random or ordered constant")


@rule("rand_like", "randn_like", "randint_like", "bernoulli", "normal", "uniform", "exponential",
      "cauchy", "log_normal", "geometric", "random", "multinomial")  # fmt: skip
def random_like(op: Op) -> list[Dims]:
    """A random draw per element changes with the number of channels: they stay."""
    for t in op.ins:
        op.freeze(op.dims(t), "a random draw per channel")
    return op.blank("a random draw")


@rule("tril", "triu")
def triangle(op: Op) -> Dims:
    """Triangles of the last two dimensions depend on the position."""
    dims = op.dims(op.args[0])
    op.freeze(dims[-2:], "a triangle of it is kept by position")
    return dims


@rule("copy")
def copy_into(op: Op) -> Dims:
    """dst.copy_(src): dst takes over what src says; broadcasting as in pointwise operators."""
    dst, src = op.args[0], op.args[1]
    a, b = op.dims(dst), op.dims(src)
    made = list(a)
    for k in range(1, len(b) + 1):
        if src.shape[-k] == dst.shape[-k]:
            op.space.tie_dims(a[-k], b[-k], op.reason("copied"))
            made[-k] = b[-k] if len(b[-k]) >= len(a[-k]) else a[-k]
    return tuple(made)
