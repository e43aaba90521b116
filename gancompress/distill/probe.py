"""Run a network once to look at it, and leave no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put ``module`` and its submodules in eval mode; restore each one's own mode afterwards (ours)."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def traceless(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Call ``module(*args, **kwargs)`` on copies of its buffers and return the output (ours).

    Running statistics and power-iteration vectors stay as they were; the mode (train or eval) and autograd are the
    caller's. Hooks run.
    """
    # Swapped, not restored in place: the backward of an earlier forward may still need the buffers.
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    return functional_call(module, buffers, args, dict(kwargs or {}))


def look(module: nn.Module, example: tuple[Any, ...]) -> Any:
    """Return ``module(*example)`` in eval mode, without gradient, side effects or use of the random state (ours)."""
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)), evaluating(module):
        with torch.no_grad():
            return traceless(module, example)


def batch_of(example: tuple[Any, ...]) -> int | None:
    """Return the batch size shared by the tensors of ``example``, or None when it holds no tensor (ours)."""
    sizes = {value.shape[0] for value in example if isinstance(value, Tensor) and value.dim() > 0}
    return sizes.pop() if len(sizes) == 1 else None
