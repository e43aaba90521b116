"""Operators on space: leading dimensions pass, the last ones hold no channels."""

from __future__ import annotations

from collections.abc import Callable

from gancompress.graph.atoms import Dims, opaque
from gancompress.graph.rules.base import rule
from gancompress.graph.tracer import Op


def _space(n: int) -> Callable[[Op], list[Dims]]:
    def spatial(op: Op) -> list[Dims]:
        x = op.args[0]
        dims = op.dims(x)
        op.freeze(dims[-n:], f"{op.name} works on space")
        return [
            (*dims[:-n], *(opaque(s, "space") for s in t.shape[-n:])) if t.dim() == x.dim() else b
            for t, b in zip(op.outs, op.blank("space"), strict=True)
        ]

    return spatial


for _n in (1, 2, 3):
    _linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[_n]
    rule(
        f"upsample_nearest{_n}d",
        f"_upsample_nearest_exact{_n}d",
        f"upsample_{_linear}{_n}d",
        f"avg_pool{_n}d",
        f"max_pool{_n}d",
        f"max_pool{_n}d_with_indices",
        f"adaptive_avg_pool{_n}d",
        f"_adaptive_avg_pool{_n}d",
        f"adaptive_max_pool{_n}d",
        f"reflection_pad{_n}d",
        f"replication_pad{_n}d",
        f"_mkldnn_adaptive_avg_pool{_n}d",
    )(_space(_n))
rule(
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "fractional_max_pool2d",
)(_space(2))


@rule("grid_sampler_2d", "grid_sampler_3d", "cudnn_grid_sampler")
def grid_sample(op: Op) -> Dims:
    """Sampling at given places: channels pass, the grid has none."""
    x, grid = op.args[0], op.args[1]
    dims = op.dims(x)
    op.freeze(dims[2:], "sampled on a grid")
    op.freeze(op.dims(grid)[1:], "a sampling grid")
    return (*dims[:2], *(opaque(s, "space") for s in op.outs[0].shape[2:]))


@rule("max_unpool2d", "max_unpool3d")
def max_unpool(op: Op) -> Dims:
    """Values go back to where they came from: they and their places lose channels together."""
    x, places = op.args[0], op.args[1]
    n = 2 if op.name.endswith("2d") else 3
    dims = op.dims(x)
    for own, other in zip(dims[:-n], op.dims(places)[:-n], strict=True):
        op.space.tie_dims(own, other, op.reason("places of max_unpool"))
    op.freeze(dims[-n:], "max_unpool works on space")
    return (*dims[:-n], *(opaque(s, "space") for s in op.outs[0].shape[-n:]))
