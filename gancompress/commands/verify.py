"""``gancompress verify``: all that was saved below a folder is there, unchanged; none is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from gancompress.commands.console import emit, stdout
from gancompress.errors import CheckpointError, ConfigError
from gancompress.storage import MANIFEST, is_sealed, read_json, read_sealed
from gancompress.training.run_files import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    MODEL,
    STATE,
    SUMMARY,
    checkpoint_step,
    is_trained,
)

RUN, MODEL_FOLDER, CHECKPOINT = "run", "model", "checkpoint"
REQUIRED = {
    RUN: (CONFIG,),
    MODEL_FOLDER: ("config.json", "model.safetensors", "plan.json"),
    CHECKPOINT: ("ema.safetensors", "generator.safetensors", STATE),
}
"""Files without which a folder of each kind cannot be used: its manifest must list them."""


@dataclass(frozen=True)
class Finding:
    """One folder of ours: how many files its manifest lists, and what is wrong with them."""

    folder: str
    files: int
    bytes: int
    faults: tuple[str, ...]


def check_integrity(path: Path, *, json: bool) -> None:
    """Check every run, model and checkpoint at or below ``path``, those without manifest too.

    Raises:
        ConfigError: there is nothing to check.
        CheckpointError: a file is missing, changed, or not listed; all of them are in the message.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    inside = [path, *(p for p in path.rglob("*") if p.is_dir() and not _is_draft(p, path))]
    folders = sorted(p for p in inside if (p / MANIFEST).exists() or kind_of(p))
    if not folders:
        raise ConfigError(
            f"no {MANIFEST} at or below {path}: nothing here was saved by gancompress"
        )
    found = [check_folder(folder) for folder in folders]
    faults = [f"{item.folder}: {fault}" for item in found for fault in item.faults]
    if json and not faults:
        emit("verify", {"ok": True, "folders": [asdict(item) for item in found]})
    elif not json:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("folder", "files", "size", ""):
            table.add_column(name, justify="right" if name in ("files", "size") else "left")
        for item in found:
            size = f"{item.bytes / 2**20:.2f} MiB"
            mark = "[bold red]damaged[/]" if item.faults else "[green]whole[/]"
            table.add_row(item.folder, str(item.files), size, mark)
        stdout().print(table)
    if faults:
        raise CheckpointError(
            f"{len(faults)} damaged: "
            + "; ".join(faults)
            + ". Copy the folder again from its source"
        )


def kind_of(folder: Path) -> str:
    """Return what ``folder`` is by its name and contents, manifest or not; empty: not ours."""
    folder = folder.resolve()
    if checkpoint_step(folder) is not None and folder.parent.name == CHECKPOINTS:
        return CHECKPOINT
    if any((folder / name).exists() for name in ("model.safetensors", "plan.json")):
        return MODEL_FOLDER
    if folder.name == MODEL and _is_run(folder.parent):
        return MODEL_FOLDER
    return RUN if _is_run(folder) else ""


def _is_run(folder: Path) -> bool:
    """Return whether ``folder`` is a run; those of earlier versions had no manifest to lose."""
    if (folder / MANIFEST).is_file() and (folder / CHECKPOINTS).is_dir():
        return True
    try:
        return "gancompress" in read_json(folder / ENVIRONMENT)
    except (CheckpointError, TypeError):
        return False


def _is_draft(folder: Path, path: Path) -> bool:
    return any(part.startswith(".") for part in folder.relative_to(path).parts)


def check_folder(folder: Path) -> Finding:
    """Compare the files of ``folder`` with its manifest, and the manifest with what must be."""
    if not (folder / MANIFEST).is_file():
        return Finding(str(folder), 0, 0, (f"{MANIFEST} is missing",))
    try:
        manifest = read_sealed(folder / MANIFEST)
        listed = manifest["files"]
        entries = {str(name): (str(v["sha256"]), int(v["bytes"])) for name, v in listed.items()}
    except (CheckpointError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Finding(str(folder), 0, 0, (f"{MANIFEST} cannot be read ({error!r})",))
    faults = (*_faults(folder, entries, manifest), *_misplaced(folder, manifest))
    return Finding(str(folder), len(entries), sum(size for _, size in entries.values()), faults)


def _faults(
    folder: Path, entries: dict[str, tuple[str, int]], manifest: dict[str, Any]
) -> Iterator[str]:
    kind = kind_of(folder)
    # A run's manifest holds that of its model, and its own folder goes on growing.
    below = {f"{MODEL}/{MANIFEST}"} if kind == RUN else set()
    if (folder / MANIFEST).is_symlink():
        yield f"{MANIFEST} points outside the folder"
    for name in REQUIRED.get(kind, ()):
        if name not in entries:
            yield f"{name} is not in the manifest, which must list it"
    for name, (digest, size) in entries.items():
        file = folder / name
        outside = name not in below and Path(name).name != name
        if "\0" in name or outside or (name not in below and not _inside(file, folder)):
            yield f"{name} points outside the folder"
        elif not file.is_file():
            yield f"{name} is missing"
        elif file.stat().st_size != size:
            yield f"{name} has {file.stat().st_size} bytes, {size} were written"
        elif _digest(file) != digest:
            yield f"{name} has changed (SHA-256)"
    if kind == RUN:
        yield from _run_faults(folder, manifest)
        if (folder / SUMMARY).is_file() and not (folder / MODEL).is_dir():
            yield f"{MODEL} is missing, though the run is finished"
        return
    for file in sorted(folder.iterdir()):
        if file.name not in entries and file.name != MANIFEST:
            yield f"{file.name} is not in the manifest"


def _inside(file: Path, folder: Path) -> bool:
    return file.resolve().parent == folder.resolve()


def _run_faults(run: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with ``env.json``, which each start of a run writes anew."""
    if not is_trained(run):
        return
    if not (run / ENVIRONMENT).is_file():
        yield f"{ENVIRONMENT} is missing"
        return
    try:
        found = read_sealed(run / ENVIRONMENT)
        if is_sealed(manifest) and not (is_sealed(found) and "gancompress" in found):
            yield f"{ENVIRONMENT} names no version"
    except CheckpointError as error:
        yield str(error).removeprefix(f"{run}/")


def _misplaced(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield that a checkpoint has another name than the step that it was saved at."""
    step = manifest.get("step")
    if is_sealed(manifest) and step is not None and step != checkpoint_step(folder.resolve()):
        yield f"it is of step {step}: the folder was renamed"


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
