"""Checkpoints that are whole or absent: safetensors + JSON + a manifest of hashes, no pickle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from gancompress.errors import CheckpointError, StorageError
from gancompress.storage import (
    MANIFEST,
    digest,
    read_json,
    read_plain,
    read_sealed,
    sealed,
    sync_folder,
    write_synced,
)
from gancompress.training.run_files import STATE, checkpoint_step
from gancompress.weights.reading import tensors_from

SCHEMA = 1
_ASIDE = ".aside-"


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
        _recover(folder)
        draft.mkdir()
        files: dict[str, bytes] = {}
        for name, tensors in parts.items():
            owned = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
            # Bytes of our own, so that two names of one storage are no error and fsync is ours.
            files[f"{name}.safetensors"] = safetensors.torch.save(_unshared(owned))
        files[STATE] = json.dumps(dict(state), indent=1).encode()
        for name, data in files.items():
            write_synced(draft / name, data)
        listed = {name: digest(data) for name, data in sorted(files.items())}
        manifest = {"schema": SCHEMA, "step": step, "files": listed}
        write_synced(draft / MANIFEST, sealed(manifest))
        sync_folder(draft)
        aside = folder / f"{_ASIDE}{final.name}"
        if final.exists():
            # Of this step, saved before: it steps aside, so that a kill here loses neither.
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(final, aside)
        os.rename(draft, final)
        sync_folder(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise StorageError(
            f"cannot save the checkpoint of step {step} in {folder}: {error.strerror or error}. "
            "Earlier checkpoints are untouched; free space or choose another folder"
        ) from error
    _prune(folder, step, keep)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint folder, after checking every file against the manifest.

    Raises:
        CheckpointError: a file is missing, changed, truncated, added, a link, or of another schema.
    """
    try:
        manifest = read_sealed(path / MANIFEST)
        step = manifest["step"]
        if manifest["schema"] != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {manifest['schema']}; this version reads {SCHEMA}"
            )
        if type(step) is not int or path.name != f"step_{step:06d}":
            raise CheckpointError(f"{path} holds step {step}: folder renamed?")
        if STATE not in manifest["files"]:
            raise CheckpointError(f"{path} is damaged: its manifest does not list {STATE}")
        _check_entries(path, {MANIFEST, *manifest["files"]})
        parts: dict[str, dict[str, Tensor]] = {}
        for name, expected in manifest["files"].items():
            inside = Path(name).name == name
            data = read_plain(path / name, int(expected["bytes"])) if inside else b""
            if digest(data) != expected:
                raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the recorded")
            if name.endswith(".safetensors"):
                parts[name.removesuffix(".safetensors")] = tensors_from(data, path / name)
        state = read_json(path / STATE)
        if not isinstance(state, dict):
            raise CheckpointError(f"{path / STATE} is damaged: it holds no table")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error!r}") from error
    return Checkpoint(step=step, parts=parts, state=state, path=path)


def _check_entries(path: Path, listed: set[str]) -> None:
    """Refuse a checkpoint folder that holds a link, or what was not saved with it."""
    for entry in path.iterdir():
        if entry.name in listed and entry.is_symlink():
            raise CheckpointError(f"{entry} is a link; a checkpoint holds its files itself")
        # What begins with a dot is of the system or its file manager, and is not read.
        if entry.name not in listed and not entry.name.startswith("."):
            raise CheckpointError(f"{entry} was not saved with this checkpoint. Move it away")


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that passes its manifest, and one message for each that fails.

    Raises:
        CheckpointError: there are checkpoints and none is good.
    """
    complaints: list[str] = []
    _recover(folder)
    for path in reversed(checkpoints(folder)):
        try:
            return load_checkpoint(path), complaints
        except CheckpointError as error:
            complaints.append(str(error))
    if complaints:
        raise CheckpointError("no good checkpoint left: " + "; ".join(complaints))
    return None, complaints


def checkpoints(folder: Path) -> list[Path]:
    """Return the committed checkpoint folders by their steps, the oldest first."""
    found = [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
    steps = {p: checkpoint_step(p) for p in found}
    return sorted((p for p in found if steps[p] is not None), key=lambda p: (steps[p] or 0, p.name))


def _prune(folder: Path, step: int, keep: int) -> None:
    """Keep the ``keep`` newest up to ``step``; what lies beyond it is of a course left behind."""
    saved = checkpoints(folder)
    past = [p for p in saved if (checkpoint_step(p) or 0) <= step]
    for old in (*past[:-keep], *saved[len(past) :]):
        # An undeletable old checkpoint wastes space and harms nothing else. As a draft: of one that
        # is half removed by a kill nobody says that it is damaged.
        with contextlib.suppress(OSError):
            gone = folder / f".tmp-{old.name}"
            shutil.rmtree(gone, ignore_errors=True)
            os.rename(old, gone)
            shutil.rmtree(gone)


def _recover(folder: Path) -> None:
    """Put back a checkpoint that had stepped aside for a new one which never came."""
    for aside in folder.glob(f"{_ASIDE}*") if folder.is_dir() else ():
        final = folder / aside.name.removeprefix(_ASIDE)
        with contextlib.suppress(OSError):
            if final.exists():
                shutil.rmtree(aside)
            else:
                os.rename(aside, final)


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
