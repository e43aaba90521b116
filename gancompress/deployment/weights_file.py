"""Weights alone, under the names of the user's own class, as safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gancompress.deployment.formats import Format
from gancompress.errors import ConfigError, TargetError


def write_weights(kind: Format, file: Path, generator: nn.Module) -> float:
    """Write every tensor of the state dict, shared ones under each of their names; return 0.0.

    Raises:
        ConfigError: the state dict holds what safetensors cannot.
        TargetError: what is read back is not what was written.
    """
    state = generator.state_dict()
    strange = [n for n, t in state.items() if not isinstance(t, torch.Tensor) or t.is_complex()]
    if strange:
        raise ConfigError(f"safetensors cannot hold {strange[0]!r}: complex, or no tensor")
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in state.items()}
    save_file(tensors, str(file), metadata={"format": "pt", "class": type(generator).__name__})
    again = load_file(str(file))
    wrong = [n for n, t in tensors.items() if not torch.equal(again[n], t) and not t.isnan().any()]
    if wrong:
        raise TargetError(f"{kind.name}: {wrong[0]!r} is not what was written. No file was kept")
    return 0.0
