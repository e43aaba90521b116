"""Where a run happens: a new numbered folder, the one given, or an unfinished one to go on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gancompress.commands.resolve.subject import RECORD, read_record
from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.training.run_folder import CONFIG, RunFolder

SUMMARY = "summary.json"
ROOT = Path("runs")


def new_folder(out: Path | None, label: str) -> Path:
    """Make and return the folder ``out``, or the next numbered one below ``runs/``.

    Raises:
        ConfigError: ``out`` exists.
        StorageError: it cannot be made.
    """
    try:
        if out is None:
            return RunFolder.create(ROOT, label).path
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise ConfigError(
            f"{out} exists and is not overwritten. Choose another --out, or go on with the run in "
            f"it: --resume {out}"
        ) from error
    except OSError as error:
        raise StorageError(
            f"cannot make the run folder {out or ROOT}: {error.strerror}. Choose another with --out"
        ) from error
    return out


def write_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write what is being compressed, before anything else happens."""
    (run / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def unfinished(recipe: Recipe, record: Mapping[str, Any], out: Path | None) -> Path | None:
    """Return the newest unfinished run of this very recipe and subject, for ``--resume auto``.

    Raises:
        ConfigError: ``out`` exists and is another run, or a finished one.
    """
    if out is not None:
        if not out.exists():
            return None
        check_same(out, recipe, record)
        return out
    for run in sorted(ROOT.glob("[0-9]*-*"), reverse=True) if ROOT.is_dir() else ():
        if (run / SUMMARY).exists() or not (run / CONFIG).is_file():
            continue
        try:
            check_same(run, recipe, record)
        except (ConfigError, CheckpointError):
            continue
        return run
    return None


def check_same(run: Path, recipe: Recipe, record: Mapping[str, Any]) -> None:
    """Refuse to go on with ``run`` as something that it is not.

    Raises:
        ConfigError: it is finished, or was started with another recipe, model or data.
    """
    if (run / SUMMARY).exists():
        raise ConfigError(f"{run} is finished. See it: gancompress compare {run}")
    started, found = load_recipe(run / CONFIG), read_record(run)
    other = [
        f"{key}: {mine!r} now, {theirs!r} then"
        for mine, theirs, key in (
            *((getattr(recipe, k), getattr(started, k), k) for k in type(recipe).model_fields),
            # Runs from before class names were kept can be resumed all the same.
            *((record.get(k), found.get(k), k) for k in record if k != "classes" or k in found),
        )
        if mine != theirs
    ]
    if other:
        raise ConfigError(
            f"{run} was started differently ({'; '.join(other[:3])}). Give the same words, or "
            "begin a new run with --init-from"
        )
