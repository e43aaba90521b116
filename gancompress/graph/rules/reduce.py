"""Reductions: a sum may run over channels that can be silenced; a mean over channels keeps them."""

from __future__ import annotations

from typing import Any

from gancompress.graph.atoms import Dim, Dims, opaque
from gancompress.graph.rules.base import rule
from gancompress.graph.tracer import Op


def _axes(op: Op, given: Any, n: int) -> list[int]:
    if given is None or given == [] or n == 0:
        return list(range(n))
    return [a % max(n, 1) for a in (given if isinstance(given, (list, tuple)) else [given])]


def _named(op: Op) -> dict[str, Any]:
    return {a.name: v for a, v in zip(op.func._schema.arguments, op.args, strict=True)}


def _shrink(dims: Dims, axes: list[int], keep: bool) -> Dims:
    if keep:
        return tuple(() if i in axes else d for i, d in enumerate(dims))
    return tuple(d for i, d in enumerate(dims) if i not in axes)


@rule("sum", "linalg_vector_norm", "norm", "nansum", "linalg_norm", "frobenius_norm",
      "count_nonzero")  # fmt: skip
def additive(op: Op) -> Dims:
    """Zeros add nothing: channels may go when something can silence them."""
    x, named = op.args[0], _named(op)
    axes = _axes(op, named.get("dim"), x.dim())
    order = named.get("ord", named.get("p", 2))
    dims = op.dims(x)
    for a in axes:
        if isinstance(order, (int, float)) and order <= 0:
            op.freeze(dims[a], "a norm that counts zeros")
        for factor in dims[a]:
            op.read(factor, None, op.static(x), True)
    return _shrink(dims, axes, bool(named.get("keepdim")))


# The graph form holds the count of these.
_COUNTED = {"mean", "std", "var", "std_mean", "var_mean"}


@rule("mean", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "logsumexp", "std", "var",
      "std_mean", "var_mean", "median", "any", "all", "aminmax", "nanmean", "mode",
      "nanmedian")  # fmt: skip
def exclusive(op: Op) -> list[Dims] | Dims:
    """The number or the order of what is reduced matters: reduced channels stay."""
    x, named = op.args[0], _named(op)
    if op.name in ("max", "min") and len(op.ins) == 2:
        from gancompress.graph.rules.pointwise import pointwise

        return pointwise(op)
    axes = _axes(op, named.get("dim"), x.dim())
    dims = op.dims(x)
    text = f"{op.name} runs over the channels"
    op.freeze(tuple(dims[a] for a in axes), text, graph_frees=op.name in _COUNTED)
    made = _shrink(dims, axes, bool(named.get("keepdim")))
    passed = tuple(tuple(f.with_zero(None) for f in d) for d in made)
    return [passed for _ in op.outs]


@rule("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
      "binary_cross_entropy_with_logits", "kl_div", "soft_margin_loss")  # fmt: skip
def loss(op: Op) -> list[Dims] | Dims:
    """A loss computed in the forward (vector quantisation): over all, or pointwise."""
    if op.outs[0].dim() or not op.ins[0].dim():
        from gancompress.graph.rules.pointwise import pointwise

        return pointwise(op)
    for tensor in op.ins:
        op.freeze(op.dims(tensor), f"{op.name} runs over the channels")
    return ()


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod",
      "sort", "topk", "logcumsumexp", "cummax", "cummin")  # fmt: skip
def along(op: Op) -> list[Dims]:
    """Softmax, sort or running sums: the axis stays, the others pass."""
    x, named = op.args[0], _named(op)
    if not x.dim():
        return [() for _ in op.outs]
    at = (named.get("dim") if named.get("dim") is not None else -1) % max(x.dim(), 1)
    dims = op.dims(x)
    op.freeze(dims[at], f"{op.name} runs along it")
    made: list[Dim] = [tuple(f.with_zero(None) for f in d) for d in dims]
    out = []
    for t in op.outs:
        mine = list(made)
        mine[at] = dims[at] if t.shape[at] == x.shape[at] else opaque(t.shape[at], "picked")
        out.append(tuple(mine))
    return out


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c", "stft")
def fft(op: Op) -> Dims:
    """Fourier transforms: the transformed dimensions stay, the others pass."""
    x = op.args[0]
    dims, out = op.dims(x), op.outs[0]
    if op.name == "stft" or out.dim() != x.dim():
        op.freeze(dims, "a short-time Fourier transform")
        return op.blank("a spectrum")[0]
    axes = {a % x.dim() for a in op.args[1]}
    op.freeze(tuple(dims[a] for a in axes), "a Fourier transform runs along it")
    return tuple(opaque(out.shape[i], "a spectrum") if i in axes else d for i, d in enumerate(dims))
