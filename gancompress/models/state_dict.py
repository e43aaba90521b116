"""Read a foreign state dict without running anything in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gancompress.errors import CheckpointError
from gancompress.weights.reading import read_weight_file

__all__ = ["read_state_dict"]


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a bare state dict written by ``torch.save``, on the CPU in float32.

    Both file formats of torch are read, always with ``weights_only=True``: a file that names any
    other Python object is refused, never opened some other way. An archive must pass its own
    checksums and may not unpack to more than its size on disk; the older format has no checksum. A
    prefix ``module.`` on every key (data parallel) is dropped.

    Raises:
        CheckpointError: the file is missing, damaged, truncated, holds anything but tensors by
            name, or a value is not a finite real number.
    """
    path = Path(file)
    loaded = read_weight_file(path).value
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not tensors by name")
    state = {name: _checked(path, name, value) for name, value in loaded.items()}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _checked(path: Path, name: object, value: object) -> Tensor:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise CheckpointError(
            f"{path} holds {name!r} of type {type(value).__name__}, not tensors by name: it is not "
            "a bare state dict (an optimizer's or a training state's file?)"
        )
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise CheckpointError(f"{path}: {name} is not a plain tensor ({value.layout})")
    if not value.is_floating_point():
        raise CheckpointError(f"{path}: {name} has type {value.dtype}, expected real numbers")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise CheckpointError(
            f"{path}: {name} claims {tuple(value.shape)} with {value.untyped_storage().nbytes()} "
            "bytes behind it"
        )
    # A copy of its own: tensors that share memory in the file would change each other in training.
    plain = value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(plain).all():
        raise CheckpointError(f"{path}: {name} holds values that are not finite")
    return plain
