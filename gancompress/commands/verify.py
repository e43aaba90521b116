"""``gancompress verify``: hashes of everything saved below a folder, without loading any of it."""

from __future__ import annotations

import hashlib
import json as jsonlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from gancompress.commands.console import emit, stdout
from gancompress.errors import CheckpointError, ConfigError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Finding:
    """One folder with a manifest: how many files it lists, and what is wrong with them."""

    folder: str
    files: int
    bytes: int
    faults: tuple[str, ...]


def check_integrity(path: Path, *, json: bool) -> None:
    """Check every manifest at or below ``path``.

    Raises:
        ConfigError: there is no manifest to check.
        CheckpointError: a file is missing, changed, or not listed; all of them are in the message.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    folders = sorted({file.parent for file in path.rglob(MANIFEST)})
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


def check_folder(folder: Path) -> Finding:
    """Compare the files of ``folder`` with its manifest."""
    try:
        listed = jsonlib.loads((folder / MANIFEST).read_bytes())["files"]
        entries = {str(name): (str(v["sha256"]), int(v["bytes"])) for name, v in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Finding(str(folder), 0, 0, (f"{MANIFEST} cannot be read ({error!r})",))
    faults = tuple(_faults(folder, entries))
    return Finding(str(folder), len(entries), sum(size for _, size in entries.values()), faults)


def _faults(folder: Path, entries: dict[str, tuple[str, int]]) -> Iterator[str]:
    for name, (digest, size) in entries.items():
        file = folder / name
        if file.resolve().parent != folder.resolve():
            yield f"{name} points outside the folder"
        elif not file.is_file():
            yield f"{name} is missing"
        elif file.stat().st_size != size:
            yield f"{name} has {file.stat().st_size} bytes, {size} were written"
        elif _digest(file) != digest:
            yield f"{name} has changed (SHA-256)"
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name not in entries and file.name != MANIFEST:
            yield f"{file.name} is not in the manifest"


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
