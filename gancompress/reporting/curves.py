"""Loss curves of a run and Pareto plots of many, as self-contained SVG."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gancompress.errors import DataError
from gancompress.extras import require
from gancompress.storage import read_plain

COLOURS = ("#3366aa", "#cc5533", "#338855", "#8855aa", "#997722", "#227788", "#aa3366", "#555555")
MARKERS = "osD^vPX*"
MANY = 30
"""Points from which a line is a running median with an interval."""


MAX_METRICS = 2**26
"""Bytes of a ``metrics.jsonl``: some 300,000 lines."""
MAX_POINTS = 2_000
"""Records of a figure: more are thinned evenly, it has 900 dots across."""


@dataclass(frozen=True)
class Point:
    """One method's result: cost ``x``, quality ``y``, and the half-width of ``y``'s error bar."""

    label: str
    x: float
    y: float
    error: float = 0.0


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``; a last line cut short by a crash is left out.

    Raises:
        DataError: the file is missing, or a line before the last is not JSON.
    """
    try:
        text = read_plain(file, MAX_METRICS).decode("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    lines = [line for line in text.splitlines() if line.strip()]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise DataError(f"{file}, line {number} is not JSON: {error}") from error
    return records


def thinned(records: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return every so-many-th record and the last one: at most `MAX_POINTS` and one."""
    step = -(-len(records) // MAX_POINTS) or 1
    return records if step == 1 else [*records[::step], records[-1]]


def _figure(width: float, height: float) -> Any:
    return require("matplotlib.figure", "report").Figure(
        figsize=(width, height), layout="constrained"
    )


def _svg(figure: Any) -> str:
    # A fixed salt and no date: equal data give equal bytes.
    rc_context = require("matplotlib", "report").rc_context
    out = io.StringIO()
    with rc_context({"svg.hashsalt": "gancompress", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]  # the XML prologue has no place inside HTML


def curves(
    records: Sequence[Mapping[str, Any]], names: Sequence[str], *, x: str = "step", title: str = ""
) -> str:
    """Return an SVG with one line for each of ``names`` over ``x``; records without it are skipped.

    Of 30 points and more it is the median of the points around, a twentieth of all on either side,
    in a band that holds the middle 80 % of them.

    Raises:
        ConfigError: matplotlib is not installed (extra ``report``).
        DataError: no record holds ``x`` and any of ``names``.
    """
    figure = _figure(6.4, 2.8)
    axes = figure.add_subplot()
    records = thinned(records)
    drawn = 0
    for name, colour in zip(names, _cycle(COLOURS), strict=False):
        points = [(r[x], r[name]) for r in records if x in r and r.get(name) is not None]
        points = [(a, b) for a, b in points if math.isfinite(b)]
        if points:
            drawn += 1
            _draw(axes, [a for a, _ in points], [b for _, b in points], name, colour)
    if not drawn:
        known = sorted({key for record in records for key in record})
        raise DataError(f"no record holds {x!r} and any of {list(names)}; found {known}")
    axes.set(xlabel=x, title=title or None)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return _svg(figure)


def _draw(axes: Any, x: Sequence[float], y: Sequence[float], name: str, colour: str) -> None:
    """Draw one line; of many points the running median, with the middle 80 % around it."""
    if len(x) < MANY or len(set(y)) < MANY // 2:
        # A line through one point is nothing: show the point.
        mark = {"marker": "o", "markersize": 5} if len(x) == 1 else {}
        axes.plot(x, y, label=name, color=colour, linewidth=1.1, **mark)
        return
    around = max(len(x) // 20, 2)
    windows = [np.asarray(y[max(i - around, 0) : i + around + 1]) for i in range(len(y))]
    low, middle, high = np.array([np.quantile(w, (0.1, 0.5, 0.9)) for w in windows]).T
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, middle, label=name, color=colour, linewidth=1.3)


def width_curves(records: Sequence[Mapping[str, Any]], most: int = 8) -> str | None:
    """Return an SVG of channels by group over the steps, of the ``most`` widest groups.

    ``None`` where the widths never changed, or were not counted.
    """
    told = [r for r in records if isinstance(r.get("widths"), Mapping) and "step" in r]
    if len(told) < 2:
        return None
    first = told[0]["widths"]
    names = sorted(first, key=lambda name: -first[name])[:most]
    flat = [{"step": r["step"], **{n: r["widths"].get(n) for n in names}} for r in told]
    return curves(flat, names)


def themed(svg: str) -> str:
    """Return one of our SVGs in the colours of the page that it stands in: black is its ink."""
    return svg.replace("#000000", "currentColor").replace("fill: #ffffff", "fill: none")


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both ``x`` and ``y`` (lower is better), by ``x``."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if not front or point.y < front[-1].y:
            front.append(point)
    return front


def pareto(
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    level: float | None = None,
    level_name: str = "",
) -> str:
    """Return an SVG of quality over cost, lower is better on both axes, the front as a line.

    ``level`` draws a horizontal line, for example the teacher's quality.

    Raises:
        ConfigError: matplotlib is not installed (extra ``report``).
        DataError: no points, or a value that is not finite.
    """
    if not points:
        raise DataError("a Pareto plot needs at least one result")
    for point in points:
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            raise DataError(f"result {point.label!r} is not finite: x={point.x}, y={point.y}")
    figure = _figure(6.4, 4.2)
    axes = figure.add_subplot()
    front = pareto_front(points)
    axes.plot([p.x for p in front], [p.y for p in front], color="#bbbbbb", zorder=1)
    labels = list(dict.fromkeys(p.label for p in points))
    for label, colour, marker in zip(labels, _cycle(COLOURS), _cycle(MARKERS), strict=False):
        own = [p for p in points if p.label == label]
        axes.errorbar(
            [p.x for p in own],
            [p.y for p in own],
            yerr=[p.error for p in own],
            fmt=marker,
            color=colour,
            label=label,
            capsize=3,
            markersize=6,
            linestyle="none",
        )
    if level is not None:
        axes.axhline(level, color="#333333", linestyle="--", linewidth=1, label=level_name or None)
    axes.xaxis.set_major_formatter(require("matplotlib.ticker", "report").EngFormatter())
    axes.set(xlabel=x_label, ylabel=y_label, title=title or None)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return _svg(figure)


def _cycle(values: Iterable[str]) -> Iterable[str]:
    known = list(values)
    while True:
        yield from known
