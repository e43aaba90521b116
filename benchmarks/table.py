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

from benchmarks.experiment import Experiment, entries, read_experiment
from benchmarks.frozen import code_hash
from benchmarks.paired import compare
from benchmarks.record import RESULTS, ROOT, place, table

DOCUMENT = ROOT / "docs" / "benchmarks.md"
PICTURES = ROOT / "docs" / "images"
README = ROOT / "README.md"
README_MARKERS = "<!-- results:begin -->", "<!-- results:end -->"

COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "Frechet, held out": lambda r: r["held_out"]["classifier"]["frechet"],
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


HELD_OUT = "Frechet, held out"


def every(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the results of all rows."""
    return [r for row in rows for r in row.results]


def primary(results: Sequence[dict[str, Any]]) -> str:
    """Return the one figure that methods are compared by: held out where all results have it."""
    return HELD_OUT if all("held_out" in r for r in results) else "Frechet"


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
    for label in entries(experiment):
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
    columns = [c for c in COLUMNS if c != HELD_OUT or all("held_out" in r for r in every(rows))]
    for row in rows:
        cells = [cell(row.values(c), DIGITS.get(c, 3)) for c in columns]
        mark = " †" if older(row) else ""
        lines.append([f"`{row.label}`{mark}", str(len(row.results)), *cells])
    # Each row carries the teacher's figures of its seeds; one row of them is enough.
    widest = max(rows, key=lambda row: len(row.results))
    teachers = Row("teacher", tuple({**r["teacher"], "wall_s": 0.0} for r in widest.results))
    unknown = ("training s", HELD_OUT)
    cells = ["" if c in unknown else cell(teachers.values(c), DIGITS.get(c, 3)) for c in columns]
    lines.append(["*the teacher*", str(len(teachers.results)), *cells])
    metrics = [r["metrics"] for r in widest.results]
    real = {"Frechet": [m["frechet_floor"] for m in metrics]}
    for column, key in (("right class", "conditional_accuracy"),):
        real[column] = [m["real"][key] for m in metrics]
    for key in ("precision", "recall", "density", "coverage"):
        real[key] = [m["real"][key] for m in metrics]
    cells = [cell(real[c], DIGITS.get(c, 3)) if c in real else "" for c in columns]
    lines.append(["*other real images*", str(len(metrics)), *cells])
    note = "\n† older than the code: something that decides it has changed since.\n"
    made = table(["run", "seeds", *columns], lines)
    return made + note if any(older(row) for row in rows) else made


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


def older(row: Row) -> bool:
    """Return whether a result of ``row`` was made by other code than there is now."""
    now = code_hash()
    return any(r.get("code") != now for r in row.results)


def by_seed(row: Row, column: str) -> dict[int, float]:
    """Return the figure of ``column`` by seed."""
    return {r["seed"]: COLUMNS[column](r) for r in row.results}


def verdict(rows: Sequence[Row], ours: str = "ppcd") -> str:
    """Say of every other run whether ``ours`` is better, worse, or not told apart from it.

    By the primary figure alone, on the seeds that both have; see docs/protocol.md. No other word is
    used. Smaller and larger networks are told by their parameters and MACs.
    """
    mine = next((row for row in rows if row.label == ours), None)
    others = [row for row in rows if row.label != ours]
    if mine is None or not others:
        return ""
    column = primary(every(rows))
    own = by_seed(mine, column)
    found = compare({row.label: by_seed(row, column) for row in others}, own)
    lines = []
    for row in others:
        if row.label not in found:
            continue
        one = found[row.label]
        interval = f"{one.low:+.3f} to {one.high:+.3f}" if len(one.differences) > 1 else "none"
        sizes = [row.mean(c) / mine.mean(c) for c in ("parameters", "M MACs")]
        # The comparison is of the other with ours; the table says it of ours.
        said = {"better": "worse", "worse": "better"}.get(one.word, one.word)
        lines.append([
            f"`{row.label}`", str(len(one.differences)), f"{one.mean:+.3f}", interval,
            f"{one.adjusted:.3g}", *(f"{x:.2f}" for x in sizes), f"**{said}**",
        ])  # fmt: skip
    head = [
        "against", "pairs", f"{column}: other less `{ours}`", "95 % interval", "p (Holm)",
        "parameters, of ours", "MACs, of ours", f"`{ours}` is",
    ]  # fmt: skip
    return table(head, lines)


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
    parser.add_argument(
        "experiments", nargs="*", default=["default", "full", "compare", "ablation"]
    )
    parser.add_argument("--tables-only", action="store_true", help="leave README and pictures")
    options = parser.parse_args(words)
    shown = []
    for name in options.experiments:
        experiment = read_experiment(name)
        rows = read_rows(experiment)
        if not rows:
            print(f"{name}: no results yet")
            continue
        ours = next(o for o in ("ppcd", "shipped", "gain") if o in experiment.runs)
        said = verdict(rows, ours)
        text = f"{protocol_of(experiment, rows)}\n{as_table(rows)}" + (f"\n{said}" if said else "")
        place(DOCUMENT, name, text)
        if name == "compare" and not options.tables_only:
            picture(experiment, rows, PICTURES / "pareto.png")
        if name in ("default", "full", "compare"):
            shown.append(text)
        print(f"{name}: {sum(len(row.results) for row in rows)} results in {DOCUMENT.name}")
    if shown and not options.tables_only:
        place_in_readme("\n".join(shown) + "\nMore: [docs/benchmarks.md](docs/benchmarks.md).\n")


if __name__ == "__main__":
    main()
