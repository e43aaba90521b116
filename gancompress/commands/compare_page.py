"""``gancompress compare --html``: the runs as one page, quality over size as a Pareto plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gancompress.reporting.curves import Point, pareto, themed
from gancompress.reporting.html import Page
from gancompress.reporting.tables import Table

MEASURES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Frechet distance", ("frechet_classifier",), "embedded classifier's features, not an FID"),
    ("L1 to what was wanted", ("to_wanted", "l1"), "held-out inputs, on the scale [-1, 1]"),
    ("L1 to the teacher", ("to_teacher", "l1"), "held-out inputs, on the scale [-1, 1]"),
    ("log mel to what was wanted", ("to_wanted", "log_mel"), "held-out inputs"),
    ("log mel to the teacher", ("to_teacher", "log_mel"), "held-out inputs"),
)
"""Measures of quality, lower is better: name, where a summary has it, protocol."""


def measure_of(runs: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[str, ...], str] | None:
    """Return the first of `MEASURES` that every one of ``runs`` has."""
    for measure in MEASURES:
        if runs and all(value_of(run, measure[1]) is not None for run in runs):
            return measure
    return None


def value_of(run: Mapping[str, Any], path: Sequence[str], who: str = "student") -> float | None:
    """Return the figure at ``path`` in the quality of a summary, ``None`` where there is none."""
    found: Any = run["quality"].get(who, {})
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def compare_page(runs: Sequence[Mapping[str, Any]], table: Table) -> Page:
    """Return the page: a Pareto plot where a measure is common to all runs, and the table."""
    measure, notes, curves = measure_of(runs), list[str](), list[tuple[str, str]]()
    sized = [run for run in runs if "size" in run]
    if measure is None:
        notes.append("No plot: these runs have no measure of quality in common.")
    elif len(sized) < len(runs) or not sized:
        notes.append("No plot: runs without a teacher have no sizes to compare.")
    else:
        name, path, protocol = measure
        points = list(_points(sized, path))
        levels = {value_of(run, path, "teacher") for run in sized} - {None}
        level = levels.pop() if len(levels) == 1 else None
        curves.append((
            f"{name} over parameters",
            themed(pareto(
                points, x_label="parameters", y_label=name, level=level, level_name="teacher",
            )),
        ))  # fmt: skip
        notes.append(f"{name}: {protocol}. Lower and further left is better.")
        if any(point.error for point in points):
            notes.append("Several seeds of a recipe and size: mean, bars of one deviation.")
    lead = f"{len(runs)} finished run{'s' if len(runs) > 1 else ''}, the best first."
    return Page("Runs compared", lead, tables=[table], curves=curves, notes=notes)


def _points(runs: Sequence[Mapping[str, Any]], path: Sequence[str]) -> Iterator[Point]:
    """Yield a point a recipe and target: the mean over its seeds."""
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        alike.setdefault((str(run["recipe"]), str(run.get("target"))), []).append(run)
    for (recipe, _), group in alike.items():
        values = [v for run in group if (v := value_of(run, path)) is not None]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        size = statistics.fmean(run["size"]["small"]["params"] for run in group)
        yield Point(recipe, size, statistics.fmean(values), spread)
