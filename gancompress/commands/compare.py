"""``gancompress compare``: finished runs side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from gancompress.commands.console import emit, stdout
from gancompress.errors import CheckpointError, ConfigError
from gancompress.storage import read_json
from gancompress.training.run_files import SUMMARY

MEANING = {
    "Frechet": "distance on the embedded classifier (not an FID)",
    "ms": "median latency of the student, batch 1",
    "L1 wanted": "to the wanted outputs",
    "L1 teacher": "to the teacher's outputs",
}
"""What columns say, below the table."""


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


def compare(runs: Sequence[Path], *, html: Path | None, json: bool) -> None:
    """Print one row per run, the best first; runs without a measure come last, by size.

    ``html`` writes a page with a Pareto plot beside that.

    Raises:
        ConfigError: a run is missing or not finished, the file exists, or the extra ``report`` is
            missing.
    """
    found = [read_summary(run) for run in runs]
    for run, summary in zip(runs, found, strict=True):
        with readable(run):  # a damaged one is named, not the comparison of all
            _rank(summary)
            _row(summary)
    found.sort(key=_rank)
    if html is not None and html.exists():
        raise ConfigError(f"{html} exists. Choose another name with --html")
    table = runs_table(found)
    if html is not None:
        from gancompress.commands.compare_page import compare_page
        from gancompress.reporting.html import write_html

        write_html(compare_page(found, table), html)
    if json:
        emit("compare", {"runs": found} | ({"file": str(html)} if html else {}))
        return
    stdout().print(table)
    if html is not None:
        stdout().print(Text(f"wrote {html}"), soft_wrap=True)


def runs_table(found: Sequence[dict[str, Any]]) -> Any:
    """Return a row a run; figures that no run has are left out."""
    from gancompress.reporting.tables import Table

    rows = [_row(item) for item in found]
    columns = (
        "run", "recipe", "seed", "smaller", "params", "MACs", "ms", "Frechet", "recall",
        "accuracy", "L1 wanted", "L1 teacher", "PSNR", "log mel", "kimg",
    )  # fmt: skip
    kept = [i for i in range(len(columns)) if i < 4 or any(r[i] != "-" for r in rows)]
    protocol = [f"{columns[i]}: {MEANING[columns[i]]}." for i in kept if columns[i] in MEANING]
    counts = sorted({i["quality"].get("student", {}).get("n") or 0 for i in found} - {0})
    if counts:
        protocol.append(f"Samples: {', '.join(map(str, counts))}.")
    # In a narrow terminal what the name of a run or another column says goes first.
    optional = ("kimg", "seed", "params", "ms", "recipe", "log mel", "PSNR", "accuracy")
    return Table(
        "runs",
        tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
        " ".join(protocol),
        tuple(name for name in optional if name in [columns[i] for i in kept]),
    )


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    from gancompress.reporting.tables import si

    student = item["quality"].get("student", {})
    small = item.get("size", {}).get("small", {})
    to_teacher, to_wanted = student.get("to_teacher", {}), student.get("to_wanted", {})
    latency = item.get("size", {}).get("small_latency", {})
    return (
        Path(item["run"]).name, item["recipe"], str(item["seed"]),
        f"{item['compression']:.2f}x" if "compression" in item else "-",
        si(small["params"]) if small else "-",
        si(small["macs"]) if small else "-",
        _figure(latency, "median_ms", ".2f"),
        _figure(student, "frechet_classifier", ".3g"), _figure(student, "recall", ".3f"),
        _figure(student, "conditional_accuracy", ".3f"),
        _figure(to_wanted, "l1", ".3g"), _figure(to_teacher, "l1", ".3g"),
        _figure(to_teacher, "psnr", ".1f"), _figure(to_teacher, "log_mel", ".3g"),
        f"{item['images_seen'] / 1000:.0f}",
    )  # fmt: skip


def _rank(summary: dict[str, Any]) -> tuple[float, float]:
    from gancompress.commands.compare_page import MEASURES, value_of

    found = (value_of(summary, path) for _, path, _ in MEASURES)
    distance = next((value for value in found if value is not None), None)
    return (float("inf") if distance is None else distance, -summary.get("compression", 0.0))


def _figure(quality: dict[str, Any], key: str, form: str) -> str:
    value = quality.get(key)
    return "-" if value is None else format(value, form)
