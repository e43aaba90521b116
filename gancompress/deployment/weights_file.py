"""Weights alone, under the names of the user's own class, as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gancompress.errors import ConfigError, TargetError


def write_tensors(file: Path, tensors: Mapping[str, Tensor], kind: str) -> None:
    """Write ``tensors``, shared ones under each of their names, and read them back.

    Raises:
        ConfigError: one is nothing that safetensors can hold.
        TargetError: what is read back is not what was written.
    """
    strange = [n for n, t in tensors.items() if not isinstance(t, Tensor) or t.is_complex()]
    if strange:
        raise ConfigError(f"safetensors cannot hold {strange[0]!r}: complex, or no tensor")
    ready = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
    save_file(ready, str(file), metadata={"format": "pt", "class": kind})
    again = load_file(str(file))
    wrong = [n for n, t in ready.items() if not torch.equal(again[n], t) and not t.isnan().any()]
    if wrong:
        raise TargetError(f"{file.name}: {wrong[0]!r} is not what was written. No file was kept")
