"""Read a foreign state dict without running anything in it."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gancompress.errors import CheckpointError

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
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.pth")) if path.parent.is_dir() else []
        found = f"; the folder holds {', '.join(near)}" if near else ""
        raise CheckpointError(f"no file {path}{found}")
    _check_archive(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns about here is refused below, or harmless
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL (\S+)", str(error))
            if named:
                raise CheckpointError(
                    f"{path} refers to Python code ({named[1]}); refused, nothing was run. "
                    "Save it again as torch.save(module.state_dict(), file)"
                ) from error
            raise CheckpointError(f"{path} is damaged, or not a file of torch.save") from error
        except Exception as error:  # many types for one fact: the bytes are not what they should be
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{path} is damaged or truncated ({first[:160]})") from error
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not tensors by name")
    state = {name: _checked(path, name, value) for name, value in loaded.items()}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _check_archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return  # the older format, or garbage: torch says which
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if packed or sum(member.file_size for member in members) > path.stat().st_size:
                raise CheckpointError(
                    f"{path} is a compressed archive; torch.save writes none, so it is refused"
                )
            damaged = archive.testzip()
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or truncated ({error})") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: {damaged} does not match its checksum")


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
