"""Does bf16 compute what float32 does? Some kernels of some versions do not, on some machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

LEAST = 0.9
"""Cosine between results in bf16 and in float32; rounding alone leaves more than 0.99."""
WIDTHS = (8, 12)
"""Channels that a layer may be cut to: kernels for few channels are others than those for many."""
_MOST = 64  # channels: wider layers are tried at this width
_SIDE = 16  # of the inputs, at least


def wrong_in_bf16(networks: Sequence[nn.Module], device: torch.device) -> str:
    """Return which convolution of ``networks`` bf16 gets wrong on ``device``; "" if none (ours).

    Every kind of convolution (kernel, stride, dilation) goes forward and backward on random
    numbers in float32 and under autocast, at its own width and at those that a cut may lead to.
    Random numbers of the caller stay as they are. Milliseconds a kind.
    """
    rng = torch.Generator().manual_seed(0)
    for layer in _kinds(networks):
        for widths in _widths(layer):
            for last in (False, True) if len(layer.kernel_size) == 2 else (False,):
                what = _differs(layer, widths, last, device, rng)
                if what:
                    name = type(layer).__name__
                    kernel = "x".join(map(str, layer.kernel_size))
                    stride = "x".join(map(str, layer.stride))
                    return (
                        f"{what} of {name}({widths[0]}, {widths[1]}, kernel {kernel}, stride "
                        f"{stride}) is another one than in float32"
                    )
    return ""


def _kinds(networks: Sequence[nn.Module]) -> Iterator[_ConvNd]:
    seen: set[tuple[Any, ...]] = set()
    for net in networks:
        for module in net.modules():
            if isinstance(module, _ConvNd) and not isinstance(module.padding, str):
                wide = min(module.in_channels, _MOST), min(module.out_channels, _MOST)
                dims = module.kernel_size, module.stride, module.dilation, module.padding
                key = (module.transposed, module.groups, wide, *dims)
                if key not in seen:
                    seen.add(key)
                    yield module


def _widths(layer: _ConvNd) -> list[tuple[int, int]]:
    if layer.groups > 1:
        return [(layer.in_channels, layer.out_channels)]
    own = min(layer.in_channels, _MOST), min(layer.out_channels, _MOST)
    return list(dict.fromkeys([own, *((w, w) for w in WIDTHS)]))


def _differs(
    layer: _ConvNd, widths: tuple[int, int], last: bool, device: torch.device, rng: torch.Generator
) -> str:
    """Return what differs, "" if nothing does, or if this cannot be run like this at all."""
    i, o = widths
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    x = torch.randn(2, i, *(max(_SIDE, 2 * r) for r in reach), generator=rng).to(device)
    shape = (i, o // layer.groups) if layer.transposed else (o, i // layer.groups)
    weight = torch.randn(*shape, *layer.kernel_size, generator=rng).to(device)
    if last:
        x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))

    def run(narrow: bool) -> tuple[Tensor, ...]:
        a, b = x.detach().requires_grad_(), weight.detach().requires_grad_()
        with torch.enable_grad(), torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            y = _call(layer, a, b)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        y.backward(grad.to(y))
        assert a.grad is not None
        assert b.grad is not None
        return y.detach(), a.grad, b.grad

    try:
        pairs = zip(run(False), run(True), strict=True)
    except RuntimeError:
        return ""  # the probe of the fit says what does not run
    names = ("the output", "the gradient of the input", "the gradient of the weight")
    for name, (full, narrow) in zip(names, pairs, strict=True):
        likeness = nn.functional.cosine_similarity(
            full.double().flatten(), narrow.double().flatten(), 0
        )
        if not likeness >= LEAST:
            return name
    return ""


def _call(layer: _ConvNd, x: Tensor, weight: Tensor) -> Tensor:
    dims = x.dim() - 2
    options: dict[str, Any] = {
        "stride": layer.stride, "padding": layer.padding,
        "dilation": layer.dilation, "groups": layer.groups,
    }  # fmt: skip
    if isinstance(layer, _ConvTransposeNd):
        function = getattr(nn.functional, f"conv_transpose{dims}d")
        return function(x, weight, output_padding=layer.output_padding, **options)  # type: ignore[no-any-return]
    return getattr(nn.functional, f"conv{dims}d")(x, weight, **options)  # type: ignore[no-any-return]
