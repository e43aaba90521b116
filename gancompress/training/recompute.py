"""Activation checkpointing: blocks forget what lies inside of them, and compute it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gancompress.errors import ConfigError

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@contextmanager
def recomputed(module: nn.Module) -> Iterator[None]:
    """Let each block of ``module`` keep its inputs alone until the backward pass (ours).

    Inside of it activations are computed a second time then (Chen et al. 2016), from the buffers of
    the first time, so that spectral norms divide by the same number and running statistics count a
    batch once. A block is an outermost part with two layers at least (`blocks`). Gradients are the
    same, bit for bit, where the block is deterministic. The module is as before on leaving.
    """
    found = blocks(module)
    before = [(vars(part), vars(part).get("forward")) for part in found]
    for part in found:
        own = partial(checkpoint, part.forward, use_reentrant=False)
        part.forward = partial(own, context_fn=partial(_contexts, part))  # type: ignore[method-assign]
    try:
        yield
    finally:
        for attributes, own in before:
            if own is None:
                del attributes["forward"]
            else:
                attributes["forward"] = own


def check_blocks(*networks: nn.Module | None) -> None:
    """Refuse networks of which none has blocks to compute again.

    Raises:
        ConfigError: what to do is in the message.
    """
    given = [network for network in networks if network is not None]
    if not any(blocks(network) for network in given):
        names = " and ".join(type(network).__name__ for network in given)
        raise ConfigError(
            f"activation_checkpointing: no blocks, parts of two layers or more, in {names}. Put "
            "layers into modules, or leave it out"
        )


def blocks(module: nn.Module) -> list[nn.Module]:
    """Return the outermost parts with two layers or more: items of lists, children, sequences."""
    found: list[nn.Module] = []
    for child in module.children():
        if _layers(child) < 2 or isinstance(child, torch.jit.ScriptModule):
            continue
        inside = blocks(child)
        if isinstance(child, _CONTAINERS) and inside:
            found += inside
        elif not isinstance(child, nn.ModuleList | nn.ModuleDict):
            # A body of many blocks is no block itself.
            found += inside if len(inside) > 1 else [child]
    return found


def _layers(module: nn.Module) -> int:
    own = sum(1 for part in module.modules() if any(True for _ in part.parameters(recurse=False)))
    if getattr(module, "parametrizations", None) is not None:
        return 1
    return own


def _contexts(part: nn.Module) -> tuple[Any, Any]:
    """Return the contexts of the first forward, and of the second with the buffers of the first."""
    first = {
        (path, key): tensor.detach().clone()
        for path, sub in part.named_modules()
        for key, tensor in sub._buffers.items()
        if tensor is not None
    }
    return nullcontext(), _with_buffers(part, first)


@contextmanager
def _with_buffers(part: nn.Module, values: dict[tuple[str, str], torch.Tensor]) -> Iterator[None]:
    # Other tensors, not other values: autograd may still need those that are there.
    stores = dict(part.named_modules())
    now = {(path, key): stores[path]._buffers[key] for path, key in values}
    for (path, key), tensor in values.items():
        stores[path]._buffers[key] = tensor.clone()
    try:
        yield
    finally:
        for (path, key), tensor in now.items():
            stores[path]._buffers[key] = tensor
