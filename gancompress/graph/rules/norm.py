"""Normalisation layers: per-channel ones pass, group norm loses whole groups, others keep all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gancompress.graph.atoms import Dim, Dims, join_zero
from gancompress.graph.rules.base import rule
from gancompress.graph.rules.shape import regroup
from gancompress.graph.tracer import Op


def _affine(op: Op, dim: Dim, weight: Any, bias: Any, *others: Any) -> Dim:
    """Tie a channel dimension with per-channel vectors; it is silent when both affine ones are."""
    zeros = []
    for vector in (weight, bias):
        if isinstance(vector, torch.Tensor):
            op.space.tie_dims(dim, op.dims(vector)[0], op.reason("per-channel norm"))
            zeros.append(op.dims(vector)[0])
    for vector in others:
        if isinstance(vector, torch.Tensor):
            op.space.tie_dims(dim, op.dims(vector)[0], op.reason("per-channel norm"))
    both = len(zeros) == 2 and all(len(z) == 1 for z in zeros)
    zero = join_zero([z[0].zero for z in zeros]) if both else None
    return tuple(f.with_zero(zero) for f in dim)


BATCH_NORMS = (
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "batch_norm", "_batch_norm_with_update", "miopen_batch_norm",
    "_native_batch_norm_legit_functional", "_batch_norm_no_update", "instance_norm",
    "_batch_norm_impl_index",
)  # fmt: skip
"""Operators that normalise dimension 1, over all others where they use the batch's statistics."""


@rule(*BATCH_NORMS)
def batch_norm(op: Op) -> list[Dims]:
    """Batch norm (and instance norm, folded into it): channels pass one by one."""
    x = op.args[0]
    named = {a.name: v for a, v in zip(op.func._schema.arguments, op.args, strict=True)}
    dims = op.dims(x)
    if _by_batch(op.name, named):
        text = "normalised over these channels together, by the statistics of the batch"
        for dim in (dims[0], *dims[2:]):
            op.freeze(dim, text)
    channel = _affine(
        op, dims[1], named.get("weight"), named.get("bias"),
        named.get("running_mean"), named.get("running_var"),
    )  # fmt: skip
    return [(dims[0], channel, *dims[2:]), *_statistics(op, x.shape[1], (channel,))]


def _by_batch(name: str, named: Mapping[str, Any]) -> bool:
    """Whether a norm takes its statistics from its input rather than from its buffers."""
    if name in ("_native_batch_norm_legit_no_training", "_batch_norm_no_update"):
        return False
    given = (named.get("training"), named.get("use_input_stats"))
    return any(given) or name == "_batch_norm_with_update" or named.get("running_mean") is None


def _statistics(op: Op, size: int, dims: Dims) -> list[Dims]:
    """Saved means and variances follow the channels or groups they belong to."""
    blank = op.blank("statistics of a norm")[1:]
    return [
        dims if t.dim() == len(dims) and t.dim() > 0 and t.shape[-1] == size else b
        for t, b in zip(op.outs[1:], blank, strict=True)
    ]


@rule("native_group_norm", "group_norm")
def group_norm(op: Op) -> list[Dims]:
    """Group norm: a group goes whole, together with ``num_groups``; one group alone stays."""
    x = op.args[0]
    groups = int(op.args[6]) if op.name == "native_group_norm" else int(op.args[1])
    weight, bias = (op.args[1:3]) if op.name == "native_group_norm" else op.args[2:4]
    dims = op.dims(x)
    channel = _affine(op, dims[1], weight, bias)
    group_dim: Dim = ()
    if groups == 1:
        op.freeze(channel, "normalised over all channels together (one group)", graph_frees=True)
    elif groups < x.shape[1]:
        parts = regroup(op, (channel,), (groups, x.shape[1] // groups))
        op.freeze(parts[1], "channels of one group of a group norm")
        group_dim = parts[0]
    else:
        group_dim = channel
    if group_dim:
        op.counts.append((6 if op.name == "native_group_norm" else 1, group_dim))
    return [(dims[0], channel, *dims[2:]), *_statistics(op, groups, (dims[0], group_dim))]


@rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm", "native_rms_norm")
def layer_norm(op: Op) -> list[Dims]:
    """Layer norm over trailing dimensions: whatever it normalises over keeps its channels."""
    x, shape = op.args[0], op.args[1]
    dims = list(op.dims(x))
    text = "normalised over all channels together"
    for k in range(1, len(shape) + 1):
        op.freeze(dims[-k], text, graph_frees=True)
    for vector in op.ins[1:]:
        op.freeze(op.dims(vector), text, graph_frees=True)
        for k in range(1, vector.dim() + 1):
            op.space.tie_dims(dims[-k], op.dims(vector)[-k], op.reason(text))
    passed = [tuple(f.with_zero(None) for f in d) for d in dims]
    return [tuple(passed), *op.blank("statistics of a norm")[1:]]


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(op: Op) -> list[Dims]:
    """Weight is g v / |v|: columns of v may be zeroed, rows only through g (0/0 otherwise)."""
    v, g, dim = op.args[0], op.args[1], int(op.args[2])
    dv, dg = op.dims(v), op.dims(g)
    op.space.tie_dims(dv[dim], dg[dim], op.reason("weight norm"))
    for i, d in enumerate(dv):
        if i != dim:
            for factor in d:
                op.read(factor, None, op.static(v), True)
    gain = dg[dim][0].zero if len(dg[dim]) == 1 else None
    made = tuple(tuple(f.with_zero(gain) for f in d) if i == dim else d for i, d in enumerate(dv))
    norm = [tuple(tuple(f.with_zero(None) for f in d) for d in dg)] if len(op.outs) > 1 else []
    return [made, *norm]


@rule("local_response_norm")
def local_response_norm(op: Op) -> list[Dims]:
    """Normalises over neighbouring channels: keeps them."""
    op.freeze(op.dims(op.args[0])[1], "normalised over neighbouring channels")
    return [op.dims(op.args[0])]
