"""Checkpoints that are whole or absent: safetensors + JSON + a manifest of hashes, no pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from gancompress.errors import CheckpointError, StorageError

SCHEMA = 1
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at ``step``: named groups of tensors, and plain JSON ``state``."""

    step: int
    parts: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    path: Path


def save_checkpoint(
    folder: Path,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Write ``folder/step_<step>`` and return it; older ones beyond ``keep`` are then deleted.

    Files are written and flushed to disk in a hidden folder, the manifest with the SHA-256 of each
    comes last, and one rename commits: a kill at any instant leaves the previous checkpoint (ours).

    Raises:
        StorageError: the disk is full or not writable; nothing earlier is lost.
    """
    final = folder / f"step_{step:06d}"
    draft = folder / f".tmp-{step:06d}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _drop_drafts(folder)
        draft.mkdir()
        for name, tensors in parts.items():
            owned = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
            # Bytes of our own, so that two names of one storage are no error and fsync is ours.
            _write(draft / f"{name}.safetensors", safetensors.torch.save(_unshared(owned)))
        _write(draft / "state.json", json.dumps(dict(state), indent=1).encode())
        files = {file.name: _digest(file) for file in sorted(draft.iterdir())}
        manifest = {"schema": SCHEMA, "step": step, "files": files}
        _write(draft / _MANIFEST, json.dumps(manifest, indent=1).encode())
        _sync(draft)
        if final.exists():
            shutil.rmtree(final)
        os.rename(draft, final)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise StorageError(
            f"cannot save the checkpoint of step {step} in {folder}: {error.strerror or error}. "
            "Earlier checkpoints are untouched; free space or choose another folder"
        ) from error
    _prune(folder, keep)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint folder, after checking every file against the manifest.

    Raises:
        CheckpointError: a file is missing, changed, truncated, or of another schema.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        if manifest["schema"] != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {manifest['schema']}; this version reads {SCHEMA}"
            )
        if path.name != f"step_{manifest['step']:06d}":
            raise CheckpointError(f"{path} holds step {manifest['step']}: folder renamed?")
        for name, expected in manifest["files"].items():
            if Path(name).name != name or _digest(path / name) != expected:
                raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the recorded")
        state = json.loads((path / "state.json").read_bytes())
        parts = {
            name.removesuffix(".safetensors"): safetensors.torch.load((path / name).read_bytes())
            for name in manifest["files"]
            if name.endswith(".safetensors")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error!r}") from error
    return Checkpoint(step=manifest["step"], parts=parts, state=state, path=path)


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that passes its manifest, and one message for each that fails.

    Raises:
        CheckpointError: there are checkpoints and none is good.
    """
    complaints: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return load_checkpoint(path), complaints
        except CheckpointError as error:
            complaints.append(str(error))
    if complaints:
        raise CheckpointError("no good checkpoint left: " + "; ".join(complaints))
    return None, complaints


def checkpoints(folder: Path) -> list[Path]:
    """Return the committed checkpoint folders, oldest first."""
    return sorted(p for p in folder.glob("step_*") if p.is_dir()) if folder.is_dir() else []


def _prune(folder: Path, keep: int) -> None:
    for old in checkpoints(folder)[:-keep]:
        # An undeletable old checkpoint wastes space and harms nothing else.
        with contextlib.suppress(OSError):
            shutil.rmtree(old)


def _drop_drafts(folder: Path) -> None:
    for draft in folder.glob(".tmp-*"):
        shutil.rmtree(draft, ignore_errors=True)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        pointer = tensor.data_ptr()
        result[key] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return result


def _digest(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _write(file: Path, data: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
