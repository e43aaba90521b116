"""Run a network once to look at it, and leave no trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from gancompress.modules.undisturbed import evaluating


def traceless(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Call ``module(*args, **kwargs)`` on copies of its buffers and return the output (ours).

    Running statistics and power-iteration vectors stay as they were; the mode (train or eval) and
    autograd are the caller's. Hooks run.
    """
    # Swapped, not restored in place: the backward of an earlier forward may still need the buffers.
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    return functional_call(module, buffers, args, dict(kwargs or {}))


def look(module: nn.Module, example: tuple[Any, ...]) -> Any:
    """Return ``module(*example)`` in eval mode, without gradient or side effects (ours).

    The random state of the process is left as it was.
    """
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    fork = torch.random.fork_rng(devices=sorted(devices, key=str))
    with fork, evaluating(module), torch.no_grad():
        return traceless(module, example)
