"""``gancompress push``: a finished run, or a saved generator, to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from gancompress.commands.console import emit, note, stdout
from gancompress.errors import ConfigError


def push(*, source: Path, repo: str | None, out: Path | None, private: bool, json: bool) -> None:
    """Upload ``source`` to ``repo``; with ``out`` write the folder there, and upload nothing.

    Raises:
        ConfigError: neither ``repo`` nor ``out``, or ``huggingface_hub`` is missing.
        CheckpointError: there is no whole generator in ``source``.
        StorageError: the hub refuses or cannot be reached.
    """
    from gancompress.saving.hub import check_repo, lay_out
    from gancompress.saving.hub import push as upload

    if repo is None and out is None:
        raise ConfigError("push needs a repository org/name, or --out FOLDER to look at it first")
    if repo is not None:
        check_repo(repo)
    if out is not None:
        folder = lay_out(source, out, repo=repo or "org/name")
        if json:
            emit("push", {"folder": str(folder), "files": sorted(p.name for p in folder.iterdir())})
            return
        stdout().print(Text(f"wrote {folder}; nothing was uploaded"), soft_wrap=True)
        return
    assert repo is not None
    note(f"uploading {source} to {repo}")
    address = upload(source, repo, private=private)
    if json:
        emit("push", {"repo": repo, "url": address})
        return
    stdout().print(Text(f"uploaded {source} to {address}"), soft_wrap=True)
