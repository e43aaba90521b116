"""``gancompress compare``: finished runs side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gancompress.commands.console import emit, stdout
from gancompress.errors import CheckpointError, ConfigError
from gancompress.storage import read_json
from gancompress.training.run_files import SUMMARY


def read_summary(run: Path) -> dict[str, Any]:
    """Return the summary of a finished run.

    Raises:
        ConfigError: there is no such run, or it is not finished.
        CheckpointError: its summary is damaged.
    """
    if not run.is_dir():
        raise ConfigError(f"no run folder {run}")
    file = run / SUMMARY
    if not file.is_file():
        raise ConfigError(f"{run} is not finished. Go on with: gancompress prune --resume {run}")
    found = read_json(file)
    try:
        return {**found, "recipe": str(found["recipe"]), "quality": dict(found["quality"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged ({error!r})") from error


@contextlib.contextmanager
def readable(run: Path) -> Iterator[None]:
    """Tell of records that are not as a run of ours writes them.

    Raises:
        CheckpointError: so they are.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"the records in {run} are damaged ({type(error).__name__}: {str(error)[:160]}). Copy "
            f"it again, and see: gancompress verify {run}"
        ) from error


def compare(runs: Sequence[Path], *, json: bool) -> None:
    """Print one row per run, best Frechet distance first; runs without one come last, by size.

    Raises:
        ConfigError: a run is missing or not finished.
    """
    from gancompress.reporting.tables import Table

    found = [read_summary(run) for run in runs]
    for run, summary in zip(runs, found, strict=True):
        with readable(run):  # a damaged one is named, not the comparison of all
            _rank(summary), _row(summary)
    found.sort(key=_rank)
    if json:
        emit("compare", {"runs": found})
        return
    rows = [_row(item) for item in found]
    columns = (
        "run", "recipe", "seed", "smaller", "params", "MACs", "Frechet", "recall", "accuracy",
        "kimg",
    )  # fmt: skip
    counts = sorted({i["quality"].get("student", {}).get("n") or 0 for i in found} - {0})
    protocol = "Frechet distance on the embedded classifier (not an FID)"
    protocol += f", samples: {', '.join(map(str, counts))}." if counts else ": not measured here."
    # In a narrow terminal what the name of a run or another column says goes first.
    optional = ("kimg", "seed", "params", "recipe", "accuracy")
    stdout().print(Table("runs", columns, tuple(rows), protocol, optional))


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    from gancompress.reporting.tables import si

    quality = item["quality"].get("student", {})
    small = item.get("size", {}).get("small", {})
    return (
        Path(item["run"]).name, item["recipe"], str(item["seed"]),
        f"{item['compression']:.2f}x" if "compression" in item else "-",
        si(small["params"]) if small else "-",
        si(small["macs"]) if small else "-",
        _figure(quality, "frechet_classifier", ".3g"), _figure(quality, "recall", ".3f"),
        _figure(quality, "conditional_accuracy", ".3f"), f"{item['images_seen'] / 1000:.0f}",
    )  # fmt: skip


def _rank(summary: dict[str, Any]) -> tuple[float, float]:
    distance = summary["quality"].get("student", {}).get("frechet_classifier")
    return (float("inf") if distance is None else distance, -summary.get("compression", 0.0))


def _figure(quality: dict[str, Any], key: str, form: str) -> str:
    value = quality.get(key)
    return "-" if value is None else format(value, form)
