"""Generators shared in the layout of Hugging Face: push() and from_pretrained()."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.extras import require
from gancompress.saving.card import model_card
from gancompress.saving.files import CONFIG, EXTRAS, PLAN, WEIGHTS
from gancompress.saving.load import load
from gancompress.saving.save import save
from gancompress.storage import MANIFEST, read_folder, read_json
from gancompress.training.run_files import SUMMARY

CARD = "README.md"
FILES = [CONFIG, EXTRAS, PLAN, WEIGHTS, MANIFEST, CARD]
"""What a shared generator consists of: nothing else is uploaded or downloaded."""

_REPO = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")


def lay_out(source: str | Path | nn.Module, out: str | Path, *, repo: str = "org/name") -> Path:
    """Write a saved generator, a finished run's or a module as a folder to share, with a card.

    Raises:
        CheckpointError: the source is damaged, or is no saved generator.
        StorageError: ``out`` exists or cannot be written.
    """
    out = Path(out)
    if out.exists():
        raise StorageError(f"{out} exists already; choose another folder or delete it")
    if isinstance(source, nn.Module):
        save(out, source)
        _write_card(out, type(source).__name__, None, repo)
        return out
    folder, run = _saved(Path(source))
    _, files = read_folder(folder)
    out.mkdir(parents=True)
    for name, data in files.items():
        (out / name).write_bytes(data)
    (out / MANIFEST).write_bytes((folder / MANIFEST).read_bytes())
    summary = None if run is None else read_json(run / SUMMARY)
    _write_card(out, (run or folder).name, summary, repo)
    return out


def _saved(source: Path) -> tuple[Path, Path | None]:
    """Return the folder of the saved generator, and the run that it belongs to."""
    folder = source / "model" if (source / "model" / PLAN).is_file() else source
    if not (folder / PLAN).is_file():
        raise CheckpointError(
            f"{source} holds no saved generator: give a finished run, or a folder that "
            "gancompress.save made"
        )
    run = folder.parent if (folder.parent / SUMMARY).is_file() else None
    return folder, run if folder.name == "model" else None


def _write_card(out: Path, title: str, summary: Any, repo: str) -> None:
    config = json.loads((out / CONFIG).read_bytes())
    (out / CARD).write_text(model_card(title, config, summary, repo=repo), encoding="utf-8")


def check_repo(repo: str) -> None:
    """Refuse what is no ``org/name``.

    Raises:
        ConfigError: the form is said.
    """
    if not _REPO.match(repo) or ".." in repo:
        raise ConfigError(f"{repo!r} is no repository: write org/name")


def push(
    source: str | Path | nn.Module, repo: str, *, private: bool = False, token: str | None = None
) -> str:
    """Upload a generator to ``repo`` of the Hugging Face hub, and return its address.

    Args:
        source: a finished run, a folder of `save`, or a module as `Masked.prune` returned it.
        repo: ``org/name``; made when it is not there.
        private: make it a private one.
        token: of the hub; without, the one that ``hf auth login`` has stored.

    Raises:
        ConfigError: ``huggingface_hub`` is not installed, or ``repo`` is no ``org/name``.
        CheckpointError: there is no whole generator in ``source``.
        StorageError: the hub refuses or cannot be reached.
    """
    check_repo(repo)
    hub = require("huggingface_hub", "hub")
    with tempfile.TemporaryDirectory() as place:
        folder = lay_out(source, Path(place) / "model", repo=repo)
        try:
            api = hub.HfApi(token=token)
            api.create_repo(repo_id=repo, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo,
                folder_path=str(folder),
                allow_patterns=FILES,
                commit_message="A generator compressed by gancompress",
            )
        except Exception as error:
            raise StorageError(f"cannot upload to {repo}: {_said(error)}") from error
    return str(getattr(done, "repo_url", None) or done)


def from_pretrained(
    name: str | Path,
    build_fn: Callable[[], nn.Module] | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
) -> nn.Module:
    """Load a shared generator: a folder, or ``org/name`` of the Hugging Face hub.

    Nothing that the files name is imported: a class that does not come with gancompress is built by
    ``build_fn``.

    Raises:
        ConfigError: neither a folder nor ``org/name``, or ``huggingface_hub`` is not installed.
        CheckpointError: the files are damaged, or it needs a ``build_fn``.
        StorageError: the hub refuses or cannot be reached.
    """
    folder = Path(name)
    if not folder.is_dir():
        repo = str(name)
        if not _REPO.match(repo):
            raise ConfigError(f"{repo!r} is neither a folder nor a repository org/name")
        hub = require("huggingface_hub", "hub")
        try:
            folder = Path(
                hub.snapshot_download(
                    repo_id=repo, revision=revision, token=token, allow_patterns=FILES
                )
            )
        except Exception as error:
            raise StorageError(f"cannot download {repo}: {_said(error)}") from error
    folder, _ = _saved(folder)
    return load(folder) if build_fn is None else load(build_fn, folder)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
