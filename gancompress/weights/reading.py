"""The one reader of weight files: safetensors and both formats of ``torch.save``.

Nothing that a file names is imported or run, and no more memory is taken than the file has bytes
(ours): the bytes are looked through first, then torch reads them with ``weights_only=True``.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from gancompress.errors import CheckpointError, closest
from gancompress.weights.formats import AGAIN, kind_of, torch_archive
from gancompress.weights.pickles import Contents, RefusedPickleError, look_through, pickles_in


@dataclass(frozen=True)
class WeightFile:
    """What a file holds: ``value`` as it was saved, on the CPU, and remarks on how it was read."""

    value: Any
    notes: tuple[str, ...] = ()


def read_weight_file(path: str | Path) -> WeightFile:
    """Return what the file of weights ``path`` holds; its name's ending does not matter.

    Raises:
        CheckpointError: it is missing, damaged, truncated, refers to code, claims more than it
            holds, or is no file of weights; the message says which.
    """
    path = Path(path)
    kind = kind_of(path)
    notes = []
    if kind == "safetensors":
        value: Any = _safetensors(path)
        if path.suffix in (".pt", ".pth", ".pkl", ".ckpt"):
            notes.append(f"{path.name} is a safetensors file in spite of its name")
    else:
        try:
            found = _from_archive(path) if kind == "zip" else _from_stream(path, kind)
        except RefusedPickleError as error:
            raise CheckpointError(f"{path} {error}. {AGAIN}") from error
        except (ValueError, EOFError, OSError, IndexError, KeyError) as error:
            raise CheckpointError(
                f"{path} is damaged, truncated or not a file of torch.save ({_short(error)}). "
                "Copy it again"
            ) from error
        if path.suffix == ".safetensors":
            notes.append(f"{path.name} is a file of torch.save in spite of its name")
        if found.inert:
            notes.append(f"settings left unread: {', '.join(sorted(found.inert))}")
        value = _by_torch(path, found)
    return WeightFile(value, tuple(notes))


def tensors_from(data: bytes, path: str | Path) -> dict[str, Tensor]:
    """Return the tensors in the bytes of a safetensors file; ``path`` is for messages.

    Raises:
        CheckpointError: they are none.
    """
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # many types for one fact: it is not what it should be
        raise CheckpointError(
            f"{path} is damaged, truncated or no safetensors file ({_short(error)}). Copy it again"
        ) from error


def tensors_at(path: str | Path, key: str = "") -> dict[str, Tensor]:
    """Return the flat table of tensors in a file, or that under the dotted ``key`` in it.

    Raises:
        CheckpointError: as `read_weight_file`, or there is no flat table of tensors there.
    """
    return flat_table(descend(read_weight_file(path).value, key, path), path)


def descend(value: Any, key: str, path: str | Path) -> Any:
    """Return what lies under the dotted ``key`` of ``value``: an entry, or a prefix of names.

    Raises:
        CheckpointError: there is no such entry; the nearest name is in the message.
    """
    for part in key.split(".") if key else ():
        if _sized(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
            continue
        names = [str(n) for n in value] if isinstance(value, Mapping) else []
        if part in names:
            value = value[part]
        elif any(name.startswith(part + ".") for name in names):
            value = {
                str(n).removeprefix(part + "."): item
                for n, item in value.items()
                if str(n).startswith(part + ".")
            }
        else:
            known = [*names, *{name.partition(".")[0] for name in names if "." in name}]
            raise CheckpointError(f"{path} has no entry {part!r}.{closest(part, known)}")
    return value


def flat_table(value: Any, path: str | Path) -> dict[str, Tensor]:
    """Return ``value`` as tensors by name.

    Raises:
        CheckpointError: it is something else; what can be chosen in it is in the message.
    """
    if not isinstance(value, Mapping):
        what = f"a {type(value).__name__}" + (f" of {len(value)}" if _sized(value) else "")
        raise CheckpointError(
            f"{path} holds {what}, not tensors by name: it does not hold a flat table of tensors. "
            f"{AGAIN}"
        )
    other = [k for k, v in value.items() if not isinstance(v, Tensor)]
    if not value or other:
        keys = [str(k) for k, v in value.items() if is_table(v)]
        arrays = [k for k in other if type(value[k]).__name__ in _ARRAYS]
        if arrays:
            told = f" {arrays[0]!r} is a NumPy array: save torch.from_numpy(array) of each"
        elif keys:
            told = f" Choose one: {', '.join(f'{path}:{k}' for k in keys)}"
        else:
            told = (
                f" {other[0]!r} is a {type(value[other[0]]).__name__}" if other else " It is empty"
            )
        raise CheckpointError(f"{path} does not hold a flat table of tensors.{told}")
    return {str(name): tensor for name, tensor in value.items()}


_ARRAYS = {"ndarray", "_reconstruct", "scalar"}  # the last two: as `_Unread` stands for them


def is_table(value: Any) -> bool:
    """Return whether ``value`` is a table of tensors by name, or holds one."""
    return isinstance(value, Mapping) and any(
        isinstance(v, Tensor)
        or (isinstance(v, Mapping) and any(isinstance(t, Tensor) for t in v.values()))
        for v in value.values()
    )


def _sized(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(str(path))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # many types for one fact: it is not what it should be
        raise CheckpointError(
            f"{path} is damaged, truncated or no safetensors file ({_short(error)}). Copy it again"
        ) from error


def _from_archive(path: Path) -> Contents:
    """Look through an archive of ``torch.save``; its storages must be there, at their full size."""
    name, sizes = torch_archive(path)
    with zipfile.ZipFile(path) as archive:
        found = look_through(archive.read(name))
    stem = name.removesuffix("data.pkl") + "data/"
    for key, storage in found.storages.items():
        have = sizes.get(stem + key)
        if have is None or have < storage.numel * storage.itemsize:
            raise RefusedPickleError(
                f"is damaged: the storage {key} has {have or 0} bytes, "
                f"{storage.numel * storage.itemsize} are claimed"
            )
    return found


def _from_stream(path: Path, kind: str) -> Contents:
    """Look through a bare pickle, or the five pickles and the storages of torch's old format."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if kind == "pickle":
            found = look_through(next(pickles_in(file, 1)))
            raise RefusedPickleError(
                f"is a bare pickle of a {type(found.value).__name__}, not a file of torch.save"
            )
        *_, main, keys = pickles_in(file, 5)
        found = look_through(main)
        for key in look_through(keys).value:
            storage = found.storages.get(str(key))
            numel = int.from_bytes(file.read(8), "little", signed=True)
            if storage is None or numel != storage.numel:
                raise ValueError(f"its storage {str(key)[:40]} is not the one that is claimed")
            file.seek(numel * storage.itemsize, io.SEEK_CUR)
            if file.tell() > size:
                raise ValueError("its storages are cut short")
    return found


class _Unread:
    """Stands for settings beside the weights: whatever they were, nothing is kept."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Unread:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _by_torch(path: Path, found: Contents) -> Any:
    """Let torch read what was looked through; of foreign names, only stand-ins are there."""
    stand_ins: list[Any] = [
        (type(name.rpartition(".")[2], (_Unread,), {}), name) for name in sorted(found.inert)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns about here is refused, or harmless
        try:
            # Of an open file: by a name's ending torch would choose another reader.
            with torch.serialization.safe_globals(stand_ins), open(path, "rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # many types for one fact: it is not what it should be
            raise CheckpointError(
                f"{path} is damaged, truncated or holds more than weights ({_short(error)}). "
                f"{AGAIN}"
            ) from error


def _short(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
