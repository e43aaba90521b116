"""What a traced generator does in one call, as operators that can be timed one by one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from gancompress.graph.atoms import Dim, dim_size
from gancompress.graph.groups import ChannelGraph
from gancompress.graph.tracer import VIEWS, OpRecord

_FREE = VIEWS | {
    "split", "split_with_sizes", "chunk", "unbind", "_unsafe_view", "view_as", "lift_fresh",
    "empty", "zeros", "ones", "full", "arange", "scalar_tensor", "detach_", "diagonal", "unfold",
}  # fmt: skip
_PRODUCTS = {"mm": 0, "bmm": 0, "matmul": 0, "addmm": 1, "baddbmm": 1, "linear": 0}
_AS_MATRICES = _PRODUCTS.keys() - {"linear"}


@dataclass(frozen=True)
class Kind:
    """One kind of operator; widths are what it is timed at, all else is here.

    Attributes:
        name: conv, product (of matrices) or pass (over memory; anything else).
        n: images of a convolution, rows of a product.
        space: sizes of the input of a convolution beside its channels.
        groups: of a convolution; 0: as many as channels.
        kernel: and the rest as torch takes them.
    """

    name: str
    n: int = 1
    space: tuple[int, ...] = ()
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    def __str__(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


PASS = Kind("pass")


@dataclass(frozen=True)
class Work:
    """One operator of a call: its kind, and the dimensions that follow the widths.

    ``reads`` and ``writes`` are channels in and out; of a pass ``writes`` alone holds all that it
    puts out, of which there are ``times`` as many at the wanted batch as on the traced example.
    """

    kind: Kind
    reads: tuple[Dim, ...]
    writes: tuple[Dim, ...]
    times: float = 1.0


def work_of(graph: ChannelGraph, batch: int) -> list[Work]:
    """Return the operators of one call of the traced generator in eval() at ``batch`` (ours).

    Views cost nothing. Work on weights alone is the same at any batch.
    """
    end = graph.starts[1] if len(graph.starts) > 1 else None
    found: list[Work] = []
    for op in graph.ops[:end]:
        found += _of_operator(op, batch / max(graph.batch, 1))
    return found


def _of_operator(op: OpRecord, more: float) -> Iterator[Work]:
    if op.name in _FREE or not op.outputs or not math.prod(op.shapes[0]):
        return
    times = 1.0 if op.static else more
    first = _PRODUCTS.get(op.name)
    if op.geometry and len(op.inputs) > 1:
        yield _convolution(op, times)
    elif first is not None and not op.static and len(op.inputs) > first + 1:
        yield _product(op, first, times)
    elif op.static and max(map(_size, op.inputs), default=0) > math.prod(op.shapes[0]):
        # Spectral norm reads its whole weight to put out little.
        yield Work(PASS, (), max(op.inputs, key=_size))
    else:
        yield Work(PASS, (), op.outputs[0], times)


def _size(dims: tuple[Dim, ...]) -> int:
    return math.prod(map(dim_size, dims))


def _convolution(op: OpRecord, times: float) -> Work:
    x, w, out = op.inputs[0], op.inputs[1], op.outputs[0]
    stride, padding, dilation, transposed, more, groups = op.geometry
    count = int(groups)
    alone = count > 1 and count == dim_size(x[1])
    kind = Kind(
        "conv",
        n=max(1, round(dim_size(x[0]) * times)),
        space=tuple(map(dim_size, x[2:])),
        groups=0 if alone else count,
        kernel=tuple(map(dim_size, w[2:])),
        stride=_ints(stride),
        padding=_ints(padding),
        dilation=_ints(dilation),
        transposed=bool(transposed),
        output_padding=_ints(more),
    )
    return Work(kind, (x[1],), (out[1],))


def _product(op: OpRecord, first: int, times: float) -> Work:
    a, b = op.inputs[first], op.inputs[first + 1]
    columns = b[-1] if op.name in _AS_MATRICES else b[0]
    rows = max(1, round(_size(a[:-1]) * times))
    return Work(Kind("product", n=rows), (a[-1],), (columns,))


def _ints(values: object) -> tuple[int, ...]:
    return tuple(int(v) for v in values)  # type: ignore[attr-defined]


def main_kind(work: list[Work]) -> tuple[Kind, int, int] | None:
    """Return the plain convolution or product that multiplies most, with its widths in and out.

    Of those with at least half as many multiplications the one on most space: in a decoder, whose
    layers multiply alike, the last ones take longest.
    """
    found: list[tuple[float, Kind, int, int]] = []
    for each in work:
        kind = each.kind
        if kind.name == "pass" or kind.groups != 1:
            continue
        i, o = _size(each.reads), _size(each.writes)
        macs = float(kind.n) * i * o * math.prod(kind.kernel) * math.prod(kind.space)
        found.append((macs, kind, i, o))
    near = [one for one in found if one[0] >= 0.5 * max(m for m, *_ in found)]
    return max(near, key=lambda one: (math.prod(one[1].space), one[0]))[1:] if near else None


def smaller(kind: Kind, macs: float, width: int) -> Kind:
    """Return ``kind`` on less space or fewer rows: at ``width`` in and out, about ``macs``."""
    own = float(kind.n) * math.prod(kind.kernel) * math.prod(kind.space) * width * width
    if own <= macs:
        return kind
    if kind.name == "product":
        return replace(kind, n=max(1, round(kind.n * macs / own)))
    share = max(1 / kind.n, macs / own)
    kind, own = replace(kind, n=max(1, int(kind.n * share))), own * share
    side = (macs / own) ** (1 / max(len(kind.space), 1))
    least = [(k - 1) * d + 1 for k, d in zip(kind.kernel, kind.dilation, strict=True)]
    space = tuple(max(a, int(s * min(side, 1))) for a, s in zip(least, kind.space, strict=True))
    return replace(kind, space=space)
