"""Names of raw tensors, the same before, during and after wrapping."""

from __future__ import annotations

import torch
from torch import nn

from gancompress.graph.twin import named_tensors


def raw_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers under the names they have without our gates.

    A gated parameter ``conv.weight`` lives at ``conv.parametrizations.weight.original`` while wrapped;
    mask scores are left out.
    """
    gated: dict[str, str] = {}
    masks: list[str] = []
    for path, sub in module.named_modules():
        if getattr(sub, "is_gancompress_gate", False):
            plist = path.rsplit(".", 1)[0]  # ...parametrizations.<name>
            owner, name = plist.rsplit(".", 1)
            owner = owner.removesuffix("parametrizations").removesuffix(".")
            gated[f"{plist}.original"] = f"{owner}.{name}" if owner else name
        elif getattr(sub, "is_gancompress_mask", False):
            masks.append(f"{path}.")
    found = {}
    for name, t in named_tensors(module):
        if not name.startswith(tuple(masks)) if masks else True:
            found[gated.get(name, name)] = t
    return found
