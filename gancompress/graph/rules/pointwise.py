"""Pointwise operators: every tensor argument is tied index by index, after broadcasting."""

from __future__ import annotations

from typing import Any

import torch

from gancompress.graph.atoms import Dim, Dims, Factor, Slot, join_zero
from gancompress.graph.rules.base import rule
from gancompress.graph.tracer import Op

# f(0) = 0: zeros pass through.
_KEEPS_ZERO = {
    "relu", "relu6", "leaky_relu", "tanh", "abs", "neg", "sqrt", "square", "sin", "tan", "asinh",
    "atan", "gelu", "silu", "mish", "elu", "celu", "selu", "hardswish", "sign", "erf", "expm1",
    "log1p", "softshrink", "hardshrink", "prelu", "_prelu_kernel", "clone", "detach", "alias",
    "_to_copy", "lift_fresh", "lift_fresh_copy", "contiguous", "positive", "trunc", "round",
    "floor", "copy", "nan_to_num", "sinh", "asin", "frac", "native_dropout", "sgn", "conj",
    "_conj", "resolve_conj", "resolve_neg", "real", "imag", "dropout", "to", "view_dtype", "rrelu",
    "_local_scalar_dense", "rad2deg",
}  # fmt: skip
_PRODUCT = {"mul", "logical_and", "bitwise_and"}
_SUM = {"add", "sub", "rsub", "maximum", "minimum", "where", "complex", "lerp", "hypot", "atan2"}


def _number_is_zero(x: Any) -> bool:
    return isinstance(x, (int, float)) and x == 0


def _combine(op: Op, name: str, zeros: list[frozenset[Slot] | None]) -> frozenset[Slot] | None:
    """Combine what the tensor arguments guarantee, one entry an argument (None: no guarantee)."""
    if name in _KEEPS_ZERO:
        return zeros[0]
    if name in _PRODUCT:
        known = [z for z in zeros if z is not None]
        return min(known, key=lambda z: (len(z), sorted(z))) if known else None
    if name == "div":
        return zeros[0] if isinstance(op.args[0], torch.Tensor) else None
    if name in _SUM:
        scalars = [a for a in op.args[:2] if isinstance(a, (int, float))]
        if name != "where" and any(not _number_is_zero(a) for a in scalars):
            return None
        values = zeros[1:] if name == "where" and len(zeros) > 2 else zeros
        return join_zero(values)
    if name in ("pow", "float_power"):
        positive = isinstance(op.args[1], (int, float)) and op.args[1] > 0
        return zeros[0] if positive else None
    if name in ("clamp", "hardtanh", "clip"):
        low, high = op.args[1], op.args[2]
        numbers = all(x is None or isinstance(x, (int, float)) for x in (low, high))
        if numbers and (low is None or low <= 0) and (high is None or high >= 0):
            return zeros[0]
        return None
    if name == "addcmul":
        return join_zero([zeros[0], _combine(op, "mul", zeros[1:])])
    return None


# Beside those that torch tags as pointwise; torch 2.10 does not tag the last two lines.
@rule("pointwise", "clone", "_to_copy", "contiguous", "lift_fresh", "detach", "alias", "view_dtype",
      "native_dropout", "dropout", "resolve_conj", "resolve_neg", "_conj", "prelu", "_prelu_kernel",
      "rrelu", "complex", "where", "lift_fresh_copy", "rrelu_with_noise",
      "hardswish", "log_sigmoid_forward",
      "leaky_relu", "elu", "celu", "selu", "hardtanh", "hardsigmoid", "_conj_physical")  # fmt: skip
def pointwise(op: Op) -> list[Dims]:
    """Tie by broadcasting; zeros pass through where the function maps zero to zero."""
    name = op.name.rstrip("_")
    out = op.outs[0]
    if name.startswith("_foreach"):
        for t in op.ins:
            op.freeze(op.dims(t), "changed by a fused list operator")
        return op.blank("a fused list operator")
    tensors = op.ins
    result: list[Dim] = []
    for k in range(out.dim()):
        at = k - out.dim()
        columns = [
            op.dims(t)[at] if t.dim() >= -at and t.shape[at] == out.shape[at] else ()
            for t in tensors
        ]
        result.append(_broadcast(op, name, columns))
    made = tuple(result)
    return [made] + [
        made if t.shape == out.shape else d
        for t, d in zip(op.outs[1:], op.blank("a mask")[1:], strict=True)
    ]


def _broadcast(op: Op, name: str, columns: list[Dim]) -> Dim:
    """Tie the factors of one output dimension; size-1 arguments have none and broadcast."""
    wide = [c for c in columns if c]
    if not wide:
        return ()
    reason = op.reason(f"{name} ties it")
    # The finest factorisation among the arguments wins, so that all can be aligned with it.
    base = max(wide, key=len)
    for other in wide:
        if other is base:
            continue
        pairs = op.space.align(base, other, reason)
        if pairs is None:
            return tuple(Factor(f.size, why="misaligned dimensions") for f in base)
        for x, y in pairs:
            op.space.tie_factors(x, y, reason)
        base = tuple(x if x.atoms is not None else y for x, y in pairs)
    made = []
    for i, factor in enumerate(base):
        zeros: list[frozenset[Slot] | None] = []
        for column in columns:
            same = [f for f in column if len(column) == len(base)]
            zeros.append(same[i].zero if same else _coarse_zero(column, factor))
        made.append(factor.with_zero(_combine(op, name, zeros)))
    return tuple(made)


def _coarse_zero(column: Dim, factor: Factor) -> frozenset[Slot] | None:
    """A coarser argument (one factor where the result has several) keeps its guarantee."""
    return column[0].zero if len(column) == 1 else None
