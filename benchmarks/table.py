"""Make the tables and the picture of the experiments from their results.

    python benchmarks/table.py            # docs/benchmarks.md, README.md, docs/images/*.png

Reads `benchmarks/results/<experiment>/*.json` and replaces what stands between the markers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.experiment import Experiment, read_experiment
from benchmarks.record import RESULTS, ROOT, place, table

DOCUMENT = ROOT / "docs" / "benchmarks.md"
PICTURES = ROOT / "docs" / "images"
README = ROOT / "README.md"
README_MARKERS = "<!-- results:begin -->", "<!-- results:end -->"

COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "Frechet": lambda r: r["metrics"]["frechet_classifier"],
    "precision": lambda r: r["metrics"]["precision"],
    "recall": lambda r: r["metrics"]["recall"],
    "density": lambda r: r["metrics"]["density"],
    "coverage": lambda r: r["metrics"]["coverage"],
    "right class": lambda r: r["metrics"]["conditional_accuracy"],
    "parameters": lambda r: r["params"],
    "M MACs": lambda r: r["macs"] / 1e6,
    "ms, batch 1": lambda r: r["latency"][0]["median_ms"],
    "training s": lambda r: r["wall_s"],
}
DIGITS = {"Frechet": 3, "parameters": 0, "M MACs": 1, "ms, batch 1": 1, "training s": 0}


@dataclass(frozen=True)
class Row:
    """All results of one label, seed by seed."""

    label: str
    results: tuple[dict[str, Any], ...]

    def values(self, column: str) -> list[float]:
        """Return the figure of ``column`` for each seed."""
        return [COLUMNS[column](r) for r in self.results]

    def mean(self, column: str) -> float:
        """Return the mean over seeds."""
        return statistics.fmean(self.values(column))


def read_rows(experiment: Experiment, results: Path = RESULTS) -> list[Row]:
    """Return the labels that have results, the smallest Frechet distance first."""
    rows = []
    for label in experiment.runs:
        paths = sorted((results / experiment.name).glob(f"{label}--s*.json"))
        found = tuple(json.loads(path.read_text()) for path in paths)
        if found:
            rows.append(Row(label, found))
    return sorted(rows, key=lambda row: row.mean("Frechet"))


def cell(values: Sequence[float], digits: int) -> str:
    """Return ``mean +- standard deviation`` over seeds (n - 1); a single value without."""
    mean = statistics.fmean(values)
    if len(values) < 2 or len(set(values)) == 1:
        return f"{mean:,.{digits}f}"
    return f"{mean:,.{digits}f} ± {statistics.stdev(values):,.{digits}f}"


def as_table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of an experiment, with its teacher and its real images."""
    lines: list[list[str]] = []
    for row in rows:
        cells = [cell(row.values(c), DIGITS.get(c, 3)) for c in COLUMNS]
        lines.append([f"`{row.label}`", str(len(row.results)), *cells])
    # Each row carries the teacher's figures of its seeds; one row of them is enough.
    widest = max(rows, key=lambda row: len(row.results))
    teachers = Row("teacher", tuple({**r["teacher"], "wall_s": 0.0} for r in widest.results))
    cells = [cell(teachers.values(c), DIGITS.get(c, 3)) for c in COLUMNS if c != "training s"]
    lines.append(["*the teacher*", str(len(teachers.results)), *cells, ""])
    metrics = [r["metrics"] for r in widest.results]
    real = {"Frechet": [m["frechet_floor"] for m in metrics]}
    for column, key in (("right class", "conditional_accuracy"),):
        real[column] = [m["real"][key] for m in metrics]
    for key in ("precision", "recall", "density", "coverage"):
        real[key] = [m["real"][key] for m in metrics]
    cells = [cell(real[c], DIGITS.get(c, 3)) if c in real else "" for c in COLUMNS]
    lines.append(["*other real images*", str(len(metrics)), *cells])
    return table(["run", "seeds", *COLUMNS], lines)


def protocol_of(experiment: Experiment, rows: Sequence[Row]) -> str:
    """Return the sentence that must stand with the numbers."""
    results = [r for row in rows for r in row.results]
    one = results[0]
    commits = ", ".join(f"`{g}`" for g in sorted({r["git"].rstrip("+") for r in results}))
    side = max(r["side_by_side"] for r in results)
    fidelity = one["metrics"]["features"]
    return (
        f"{experiment.summary.capitalize()}. Every run: {one['images_seen']:,} images made in "
        f"training ({experiment.steps} generator steps), from the embedded teacher and "
        f"{one.get('real_images', 2000):,} real images. Measured on {experiment.n:,} samples "
        f"against {experiment.n:,} real images, with the features of the embedded classifier "
        f"(`{fidelity}`; no FID). Mean ± standard deviation over seeds. {one['device'].upper()}, "
        f"{one['machine']}, {one['threads']} thread a run, up to {side} runs side by side on a "
        "shared machine, so that seconds and "
        f"milliseconds are rough; torch {one['versions']['torch']}; commits {commits}.\n"
    )


def verdict(rows: Sequence[Row], ours: str = "ppcd") -> str:
    """Say in words where ``ours`` wins and where it does not."""
    by_label = {row.label: row for row in rows}
    if ours not in by_label or len(rows) < 2:
        return ""
    said = []
    for column, best in (("Frechet", min), ("right class", max), ("recall", max), ("M MACs", min)):
        winner = best(rows, key=lambda row: row.mean(column))
        digits = DIGITS.get(column, 3)
        own = cell(by_label[ours].values(column), digits)
        if winner.label == ours:
            others = [row for row in rows if row.label != ours]
            second = best(others, key=lambda row: row.mean(column))
            close = " (within the spread)" if overlap(winner, second, column) else ""
            theirs = cell(second.values(column), digits)
            said.append(f"{column}: `{ours}` {own}, next `{second.label}` {theirs}{close}")
        else:
            theirs = cell(winner.values(column), digits)
            said.append(f"{column}: `{ours}` {own}, **`{winner.label}` is better**: {theirs}")
    return "Where it wins and where not: " + "; ".join(said) + ".\n"


def overlap(a: Row, b: Row, column: str) -> bool:
    """Return whether two rows differ by less than their standard deviations together."""
    spread = sum(
        statistics.stdev(v) if len(v) > 1 else 0.0 for v in (a.values(column), b.values(column))
    )
    return abs(a.mean(column) - b.mean(column)) <= spread


def picture(experiment: Experiment, rows: Sequence[Row], path: Path) -> None:
    """Draw quality against work: each seed a dot, each mean a label."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), dpi=120)
    for index, row in enumerate(rows):
        colour = f"C{index}"
        x, y = row.values("M MACs"), row.values("Frechet")
        axes.scatter(x, y, s=22, color=colour, alpha=0.5, linewidths=0)
        middle = row.mean("M MACs"), row.mean("Frechet")
        # The first in front, and all hollow: neighbours hide one another.
        axes.scatter(
            *middle, s=70, facecolors="none", edgecolors=colour, linewidths=2, marker="D",
            label=row.label, zorder=3 + len(rows) - index,
        )  # fmt: skip
    teacher = rows[0].results[0]["teacher"]
    floor = rows[0].results[0]["metrics"]["frechet_floor"]
    axes.scatter(
        teacher["macs"] / 1e6, teacher["metrics"]["frechet_classifier"],
        s=110, color="black", marker="*", label=f"teacher, {teacher['params']:,} parameters",
    )  # fmt: skip
    axes.axhline(floor, color="grey", linestyle=":", label="other real images")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("million multiply-accumulates an image")
    axes.set_ylabel(f"Frechet distance on classifier features (n = {experiment.n:,})")
    axes.set_title(f"{experiment.name}: 5.2x fewer parameters, equal images seen")
    ticks = [5, 10, 20, 50, 100]
    axes.set_xlim(5, 150)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def place_in_readme(text: str, document: Path = README) -> None:
    """Replace the table of the README.

    Raises:
        SystemExit: its markers are gone.
    """
    old = document.read_text()
    begin, end = README_MARKERS
    if begin not in old or end not in old:
        raise SystemExit(f"{document} has no markers {begin} and {end}")
    head, tail = old.split(begin)[0], old.split(end)[1]
    document.write_text(f"{head}{begin}\n{text}{end}{tail}")


def main(words: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="*", default=["full", "compare", "ablation"])
    options = parser.parse_args(words)
    shown = []
    for name in options.experiments:
        experiment = read_experiment(name)
        rows = read_rows(experiment)
        if not rows:
            print(f"{name}: no results yet")
            continue
        ours = "ppcd" if "ppcd" in experiment.runs else "gain"
        text = f"{protocol_of(experiment, rows)}\n{as_table(rows)}\n{verdict(rows, ours)}"
        place(DOCUMENT, name, text)
        if name == "compare":
            picture(experiment, rows, PICTURES / "pareto.png")
        if name in ("full", "compare"):
            shown.append(text)
        print(f"{name}: {sum(len(row.results) for row in rows)} results in {DOCUMENT.name}")
    if shown:
        place_in_readme("\n".join(shown) + "\nMore: [docs/benchmarks.md](docs/benchmarks.md).\n")


if __name__ == "__main__":
    main()
