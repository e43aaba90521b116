"""Contractions: convolutions, matrix products and attention read channels and write others."""

from __future__ import annotations

import math
from typing import Any

import torch

from gancompress.graph.atoms import Dim, Dims, Factor, join_zero, opaque
from gancompress.graph.rules.base import rule
from gancompress.graph.tracer import Op


def _split_first(op: Op, dim: Dim, outer: int, what: str) -> tuple[Dim, Dim]:
    """Split a dimension into (outer, rest), as a grouped convolution does."""
    total = math.prod(f.size for f in dim)
    reason = op.reason(what)
    virtual: Dim = (Factor(outer), *((Factor(total // outer),) if total > outer else ()))
    pairs = op.space.align(dim, virtual, reason)
    if pairs is None:
        return opaque(outer, what), opaque(total // outer, what)
    left: list[Factor] = []
    rest: list[Factor] = []
    seen = 1
    for x, _ in pairs:
        (left if seen < outer else rest).append(x)
        seen *= x.size
    return tuple(left), tuple(rest)


def _bias(op: Op, out: Dim, bias: Any) -> Dim:
    """Tie a bias with the output channels; dead rows are zero only if the bias is zeroed too."""
    if not isinstance(bias, torch.Tensor):
        return out
    dim = op.dims(bias)[-1]
    op.space.tie_dims(out, dim, op.reason("bias"))
    zero = dim[0].zero if len(dim) == 1 else None
    return tuple(f.with_zero(join_zero([f.zero, zero])) for f in out)


@rule("convolution", "_convolution", "convolution_overrideable", "conv1d", "conv2d", "conv3d",
      "mkldnn_convolution")  # fmt: skip
def convolution(op: Op) -> Dims:
    """Input channels tie with the weight's input dim; the weight's output dim is written."""
    return _convolve(op, bool(op.args[6]), groups_at=8)


@rule("deform_conv2d")
def deformable_convolution(op: Op) -> Dims:
    """torchvision's: offsets bend the window; channels that share offsets stay equally many."""
    x, offset, mask = op.args[0], op.args[2], op.args[3]
    op.freeze(op.dims(offset)[1:], "offsets of a deformable convolution")
    op.freeze(op.dims(mask)[1:], "weights of a deformable convolution's window")
    if op.args[12] > 1:
        op.freeze(_group_dim(op, op.dims(x)[1], op.args[12]), "channels that share offsets")
    return _convolve(op, False, groups_at=11, bias_at=4)


def _convolve(op: Op, transposed: bool, groups_at: int, bias_at: int = 2) -> Dims:
    """Tie what any convolution ties; the arguments are where operators keep groups and bias."""
    x, w, bias, groups = op.args[0], op.args[1], op.args[bias_at], int(op.args[groups_at])
    dx, dw, ws = op.dims(x), op.dims(w), op.static(w)
    op.freeze(dw[2:], "a convolution kernel's window")
    op.freeze(dx[2:], "space under a convolution")
    space = tuple(opaque(n, "space") for n in op.outs[0].shape[2:])
    taps = math.prod(w.shape[2:])
    pixels = math.prod((x if transposed else op.outs[0]).shape[2:])
    i_dim, o_dim = (dw[0], dw[1]) if transposed else (dw[1], dw[0])
    if groups == 1:
        op.contract(dx[1], i_dim, op.static(x), ws)
        out = o_dim
        op.macs(taps * pixels, dx[0], dx[1], o_dim)
    else:
        op.counts.append((groups_at, _group_dim(op, dx[1], groups)))
        out = _grouped(op, dx[1], dw, groups, transposed, op.static(x), ws)
        op.macs(taps * pixels, dx[0], *((dx[1], dw[1]) if transposed else (dw[0], dw[1])))
    return (dx[0], _bias(op, out, bias), *space)


def _group_dim(op: Op, dim: Dim, groups: int) -> Dim:
    return _split_first(op, dim, groups, "groups of a grouped convolution")[0]


def _grouped(
    op: Op, x: Dim, dw: Dims, groups: int, transposed: bool, x_static: bool, w_static: bool
) -> Dim:
    """Grouped convolution: all groups keep equal sizes, or (depthwise) whole groups go."""
    what = "groups of a grouped convolution"
    reason = op.reason(what)
    per_in = math.prod(f.size for f in x) // groups
    xg, xi = _split_first(op, x, groups, what)
    if per_in == 1:
        if transposed:
            op.space.tie_dims(x, dw[0], reason)
            return (*_either(x, dw[0]), *dw[1])
        multiplier = math.prod(f.size for f in dw[0]) // groups
        if multiplier == 1:
            op.space.tie_dims(x, dw[0], reason)
            return _either(dw[0], x)
        # Whole groups go with the channels; where those stay, position j of every group can go.
        wg, wi = _split_first(op, dw[0], groups, what)
        op.space.tie_dims(x, wg, reason)
        return (*_either(wg, x), *wi)
    wg, wi = _split_first(op, dw[0], groups, what)
    op.freeze(xg, "a group of a grouped convolution")
    op.freeze(wg, "a group of a grouped convolution")
    op.space.tie_dims(xg, wg, reason)
    if transposed:
        op.contract(xi, wi, x_static, w_static)
        return (*_either(wg, xg), *dw[1])
    op.contract(xi, dw[1], x_static, w_static)
    return (*_either(wg, xg), *wi)


def _either(a: Dim, b: Dim) -> Dim:
    """Per-channel product: zero where either argument is zero."""
    if len(a) != len(b):
        return a
    return tuple(
        (x if x.atoms is not None else y).with_zero(x.zero if x.zero is not None else y.zero)
        for x, y in zip(a, b, strict=True)
    )


def _matmul(op: Op, a: torch.Tensor, b: torch.Tensor) -> Dims:
    """(..., n, k) @ (..., k, m): k is read, n and m pass, batch dimensions tie."""
    da, db = op.dims(a), op.dims(b)
    op.contract(da[-1], db[-2], op.static(a), op.static(b))
    batch = []
    for x, y in zip(da[:-2], db[:-2], strict=True):
        op.space.tie_dims(x, y, op.reason("batch of a matrix product"))
        batch.append(_either(x, y) if x and y else x or y)
    if not (op.static(a) and op.static(b)):  # spectral norm's power iteration is not inference work
        op.macs(1, *batch, da[-2], da[-1], db[-1])
    return (*batch, da[-2], db[-1])


def _plus(op: Op, out: Dims, extra: Any) -> Dims:
    """Add a broadcast tensor (bias) to an output."""
    if not isinstance(extra, torch.Tensor):
        return out
    made = list(out)
    dims = op.dims(extra)
    for k in range(1, len(out) + 1):
        if k > len(dims) or extra.shape[-k] == 1:
            made[-k] = tuple(f.with_zero(None) for f in made[-k])
        else:
            op.space.tie_dims(made[-k], dims[-k], op.reason("bias"))
            zero = dims[-k][0].zero if len(dims[-k]) == 1 else None
            made[-k] = tuple(f.with_zero(join_zero([f.zero, zero])) for f in made[-k])
    return tuple(made)


@rule("mm", "bmm", "matmul")
def matrix_product(op: Op) -> Dims:
    """Plain and batched matrix products."""
    return _matmul(op, op.args[0], op.args[1])


@rule("addmm", "baddbmm")
def matrix_product_plus(op: Op) -> Dims:
    """Matrix product plus a broadcast bias."""
    return _plus(op, _matmul(op, op.args[1], op.args[2]), op.args[0])


@rule("linear")
def linear(op: Op) -> Dims:
    """``x @ weight.T + bias``."""
    x, w = op.args[0], op.args[1]
    dx, dw = op.dims(x), op.dims(w)
    op.contract(dx[-1], dw[1], op.static(x), op.static(w))
    op.macs(1, *dx, dw[0])
    return _plus(op, (*dx[:-1], dw[0]), op.args[2])


@rule("mv", "addmv")
def matrix_vector(op: Op) -> Dims:
    """Matrix times vector."""
    m, v = (op.args[1], op.args[2]) if op.name == "addmv" else (op.args[0], op.args[1])
    op.contract(op.dims(m)[1], op.dims(v)[0], op.static(m), op.static(v))
    out = (op.dims(m)[0],)
    return _plus(op, out, op.args[0]) if op.name == "addmv" else out


@rule("dot", "vdot")
def inner(op: Op) -> Dims:
    """Inner product of two vectors."""
    a, b = op.args[0], op.args[1]
    op.contract(op.dims(a)[0], op.dims(b)[0], op.static(a), op.static(b))
    return ()


@rule("outer", "ger")
def outer(op: Op) -> Dims:
    """Outer product."""
    return (op.dims(op.args[0])[0], op.dims(op.args[1])[0])


@rule("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu",
      "_scaled_dot_product_efficient_attention", "_scaled_dot_product_attention_math",
      "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable",
      "_scaled_dot_product_attention_math_for_mps")  # fmt: skip
def attention(op: Op) -> list[Dims]:
    """softmax(q k^T) v: q and k share their width, v's width passes, heads and batch tie."""
    q, k, v = op.args[:3]
    dq, dk, dv = op.dims(q), op.dims(k), op.dims(v)
    named = {a.name: x for a, x in zip(op.func._schema.arguments, op.args, strict=True)}
    for t in (dq, dk):
        op.freeze(t[-2], "positions of attention (softmax axis)")
    op.space.tie_dims(dk[-2], dv[-2], op.reason("positions of attention"))
    if named.get("scale") is None:
        text = "attention scales by the width of its queries"
        op.freeze(dq[-1], text, graph_frees=True)
        op.freeze(dk[-1], text, graph_frees=True)
    op.contract(dq[-1], dk[-1], op.static(q), op.static(k))
    if q.shape[-1] == v.shape[-1]:
        # Torch takes another path, of other operators, where the widths differ.
        op.space.tie_dims(dq[-1], dv[-1], op.reason("fused attention has one width"))
    batch = []
    for x, y, z in zip(dq[:-2], dk[:-2], dv[:-2], strict=True):
        op.space.tie_dims(x, y, op.reason("batch or heads of attention"))
        op.space.tie_dims(y, z, op.reason("batch or heads of attention"))
        batch.append(tuple(f.with_zero(g.zero) for f, g in zip(x, z, strict=True))
                     if len(x) == len(z) else x)  # fmt: skip
    mask = named.get("attn_mask", named.get("attn_bias"))
    if isinstance(mask, torch.Tensor):
        # Added to the weights: (batch, heads, queries, keys), each of full size or 1.
        dm = op.dims(mask)
        for x, y in zip((*batch, dq[-2], dk[-2])[-len(dm) :], dm, strict=True):
            if x and y:
                op.space.tie_dims(x, y, op.reason("the mask of attention"))
    op.macs(1, *batch, dq[-2], dk[-2], dq[-1])
    op.macs(1, *batch, dq[-2], dk[-2], dv[-1])
    blank = op.blank("statistics of attention")[1:]
    rest = [
        (*batch, dq[-2]) if t.dim() == q.dim() - 1 and t.dtype.is_floating_point else b
        for t, b in zip(op.outs[1:], blank, strict=True)
    ]
    return [(*batch, dq[-2], dv[-1]), *rest]


@rule("mkldnn_rnn_layer", "lstm", "gru", "rnn_tanh", "rnn_relu", "_cudnn_rnn")
def recurrent(op: Op) -> list[Dims]:
    """LSTM and GRU as one operator: it stays, and so does what it reads."""
    for tensor in op.ins:
        op.freeze(op.dims(tensor), "read by a recurrent layer, which packs its gates")
    return op.blank("the output of a recurrent layer")
