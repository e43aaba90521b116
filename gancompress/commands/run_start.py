"""Where a run happens: a new numbered folder, the one given, or an unfinished one to go on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gancompress.commands.console import note
from gancompress.commands.resolve.subject import read_record
from gancompress.errors import CheckpointError, ConfigError, StorageError
from gancompress.recipes.load import dump_recipe, load_recipe
from gancompress.recipes.schema import Recipe, fields_that_count
from gancompress.training.lock import Lock
from gancompress.training.run_files import (
    CONFIG,
    LOCK,
    SUBJECT,
    SUMMARY,
    is_unstarted,
    numbered_runs,
)
from gancompress.training.run_folder import RunFolder, check_start, make_folder

ROOT = Path("runs")


def new_folder(out: Path | None, label: str, recipe: Recipe, record: Mapping[str, Any]) -> Path:
    """Make and return the folder ``out``, or the next numbered one below ``runs/``.

    Recipe and record are in it from its first moment, so that a run that is stopped at any time
    can be resumed. A folder that is empty, or whose run was stopped before its first step, is used
    again.

    Raises:
        ConfigError: ``out`` exists and holds a run or anything else, or is in use.
        StorageError: it cannot be made.
    """
    asked = record.get("max_steps")
    remark = "" if asked is None else f"# shortened to {asked} steps in all (--max-steps {asked})\n"
    files = {
        SUBJECT: json.dumps(dict(record), indent=2) + "\n",
        CONFIG: remark + dump_recipe(recipe),
    }
    try:
        if out is None:
            return RunFolder.create(ROOT, label, files).path
        if is_unstarted(out):
            _clear(out)
        make_folder(out, files)
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


def _clear(run: Path) -> None:
    """Empty a folder whose run was stopped before its first step.

    Raises:
        ConfigError: another process is setting it up.
    """
    if not any(run.iterdir()):
        return
    lock = Lock(run / LOCK)
    lock.take()
    note(f"{run} holds a run that was stopped before its first step: it is used again")
    for file in run.iterdir():
        if file.is_dir():
            shutil.rmtree(file, ignore_errors=True)
        elif file.name != LOCK:
            file.unlink(missing_ok=True)
    lock.release()


def require_recipe(run: Path) -> None:
    """Refuse to resume a run that was stopped before its recipe was written.

    Raises:
        ConfigError: it was; the message says how to use the folder again.
    """
    if not (run / CONFIG).is_file():
        raise ConfigError(
            f"{run} has no {CONFIG}: its run was stopped before its first step. Start it again in "
            f"the same folder, with --out {run} and the words of the first time"
        )


def unfinished(recipe: Recipe, record: Mapping[str, Any], out: Path | None) -> Path | None:
    """Return the newest unfinished run of this very recipe and subject, for ``--resume auto``.

    Raises:
        ConfigError: ``out`` exists and is another run, or a finished one.
    """
    if out is not None:
        if not out.exists():
            return None
        try:
            check_same(out, recipe, record)
        except (ConfigError, CheckpointError):
            if not is_unstarted(out):
                raise
            return None  # nothing was learnt there: the words of now begin anew
        return out
    for run in reversed(numbered_runs(ROOT)):
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
        CheckpointError: what it was started with has been changed since.
    """
    if (run / SUMMARY).exists():
        raise ConfigError(f"{run} is finished. See it: gancompress compare {run}")
    check_start(run)
    started, found = load_recipe(run / CONFIG), read_record(run)
    other = [
        f"{key}: {mine!r} now, {theirs!r} then"
        for mine, theirs, key in (
            *((getattr(recipe, k), getattr(started, k), k) for k in fields_that_count(recipe)),
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
