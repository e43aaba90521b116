"""Batch norm with the statistics of the global batch, on any device and backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gancompress.modules.ranks import sum_, world

_ARGUMENTS: dict[Any, tuple[str, ...]] = {
    torch.batch_norm: (
        "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps",
        "cudnn_enabled",
    ),
    functional.batch_norm: (
        "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
    ),
}  # fmt: skip
"""Some code calls the operator, most the function around it: a mode sees the outer one only."""
_DEFAULTS: dict[str, Any] = {
    "running_mean": None, "running_var": None, "weight": None, "bias": None, "training": False,
    "momentum": 0.1, "eps": 1e-5,
}  # fmt: skip


class SyncedBatchNorm(TorchFunctionMode):
    """While entered, every batch norm of torch in training takes its statistics over all ranks.

    torch's SyncBatchNorm (Ioffe and Szegedy 2015 over all processes) is a module that needs GPUs
    and takes the place of BatchNorm2d; this needs neither, so that the norms of a user's own class
    are synchronised too, and the network that is delivered stays as it was (ours). All ranks must
    run the same norms in the same order. Alone nothing is changed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``; batch norms in training are computed here."""
        kwargs = dict(kwargs or {})
        if func not in _ARGUMENTS or world() == 1:
            return func(*args, **kwargs)
        given = _DEFAULTS | dict(zip(_ARGUMENTS[func], args, strict=False)) | kwargs
        if not given["training"]:
            return func(*args, **kwargs)
        given.pop("cudnn_enabled", None)
        return synced_batch_norm(**given)


def synced_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise ``input`` (n, c, ...) by mean and variance over the batches of all ranks.

    Every rank has as many samples. The variance is that of all values: the mean of the ranks' own
    variances plus the spread of their means.
    """
    x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    axes = [d for d in range(x.dim()) if d != 1]
    mean = x.mean(axes)
    both = mean_of_ranks(torch.stack([mean, x.var(axes, unbiased=False)]))
    spread = mean_of_ranks((mean - both[0]).square())
    var = both[1] + spread
    if running_mean is not None and running_var is not None:
        count = x.numel() // x.shape[1] * world()
        with torch.no_grad():
            running_mean.lerp_(both[0].to(running_mean), momentum)
            unbiased = var * (count / max(count - 1, 1))
            running_var.lerp_(unbiased.to(running_var), momentum)
    shape = [1, -1, *[1] * (x.dim() - 2)]
    out = (x - both[0].view(shape)) * (var + eps).rsqrt().view(shape)
    if weight is not None:
        out = out * weight.view(shape)
    if bias is not None:
        out = out + bias.view(shape)
    return out.to(input.dtype)


def mean_of_ranks(x: Tensor) -> Tensor:
    """Return the mean of the ranks' ``x``, with gradient: that of a loss which is a mean, too."""
    return _Mean.apply(x)  # type: ignore[no-any-return]


class _Mean(torch.autograd.Function):
    """Its own transpose, so it can be differentiated as often as one likes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sum_(x.detach().clone(), "norm statistics") / world()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return _Mean.apply(*grads)  # type: ignore[no-any-return]
