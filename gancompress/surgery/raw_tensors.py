"""Names of raw tensors, the same before, during and after wrapping."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

_GATED = "parametrizations."


def raw_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return each parameter and buffer once, under its first name without our gates (ours).

    While wrapped, a gated ``conv.weight`` lives at ``conv.parametrizations.weight.original``; mask
    scores are left out. A shared tensor has the name that ``named_parameters`` of the plain
    module gives it.
    """
    named = list(_plain_order(module, "", set()))
    found: dict[str, torch.Tensor] = {}
    for buffers in (False, True):
        seen: set[int] = set()
        for name, t, is_buffer in named:
            if is_buffer == buffers and id(t) not in seen:
                seen.add(id(t))
                found.setdefault(name, t)
    return found


def gates_off(module: nn.Module) -> None:
    """Take our gates off a copy of a wrapped generator, in place; a plain module stays as it is."""
    gate = next((m for m in module.modules() if getattr(m, "is_gancompress_gate", False)), None)
    if gate is not None:
        gate.strip(module)  # type: ignore[operator]


def _plain_order(
    module: nn.Module, path: str, seen: set[int]
) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Walk as torch does over the plain module: own tensors in their old order, then children."""
    if id(module) in seen or getattr(module, "is_gancompress_mask", False):
        return
    seen.add(id(module))
    gated, order = _gated(module)
    own = {**module._parameters, **gated}
    for key in [*(k for k in order if k in own), *(k for k in own if k not in order)]:
        if own[key] is not None:
            yield path + key, own[key], False  # type: ignore[misc]
    for key, buffer in module._buffers.items():
        if buffer is not None:
            yield path + key, buffer, True
    for key, child in module._modules.items():
        if child is None:
            continue
        if key == "parametrizations" and gated:
            for name, plist in child._modules.items():
                if name not in gated and plist is not None:
                    yield from _plain_order(plist, f"{path}{_GATED}{name}.", seen)
        else:
            yield from _plain_order(child, f"{path}{key}.", seen)


def _gated(module: nn.Module) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the raw tensors behind our gates of one module, and its plain order of parameters."""
    children = dict(module._modules.items())  # that of a TorchScript module has no get()
    lists = children.get("parametrizations")
    found: dict[str, torch.Tensor] = {}
    order: list[str] = []
    for name, plist in lists._modules.items() if lists is not None else ():
        gate = plist._modules.get("0") if plist is not None else None
        if getattr(gate, "is_gancompress_gate", False):
            assert plist is not None
            found[name] = plist._parameters["original"]  # type: ignore[assignment]
            order = order or gate.order  # type: ignore[union-attr, assignment]
    return found, order
