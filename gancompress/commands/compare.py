"""``gancompress compare`` and ``report``: finished runs side by side, or one as an HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from gancompress.commands.console import emit, note, stdout
from gancompress.errors import CheckpointError, ConfigError
from gancompress.storage import read_json
from gancompress.training.run_files import (
    BEFORE_AFTER,
    CONFIG,
    ENVIRONMENT,
    METRICS,
    REPORT,
    SAMPLE_GRID,
    SUMMARY,
)

CURVES = {
    "Losses": ("g_loss", "d_loss", "distill", "penalty"),
    "Logits of the discriminator": ("real", "fake"),
    "Parameters": ("params",),
    "Speed": ("images_per_second",),
}
"""Figures of a report: title, and the keys of metrics.jsonl drawn in it."""


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


def compare_runs(runs: Sequence[Path], *, json: bool) -> None:
    """Print one row per run, best Frechet distance first; runs without one come last, by size.

    Raises:
        ConfigError: a run is missing or not finished.
    """
    from gancompress.reporting.tables import Table, si

    found = sorted((read_summary(run) for run in runs), key=_rank)
    if json:
        emit("compare", {"runs": found})
        return
    rows = []
    for item in found:
        quality = item["quality"].get("student", {})
        small = item.get("size", {}).get("small", {})
        rows.append((
            Path(item["run"]).name, item["recipe"], str(item["seed"]),
            f"{item['compression']:.2f}x" if "compression" in item else "-",
            si(small["params"]) if small else "-",
            si(small["macs"]) if small else "-",
            _figure(quality, "frechet_classifier", ".3g"), _figure(quality, "recall", ".3f"),
            _figure(quality, "conditional_accuracy", ".3f"), f"{item['images_seen'] / 1000:.0f}",
        ))  # fmt: skip
    columns = (
        "run", "recipe", "seed", "smaller", "params", "MACs", "Frechet", "recall", "accuracy",
        "kimg",
    )  # fmt: skip
    counts = sorted({i["quality"].get("student", {}).get("n") or 0 for i in found})
    protocol = f"Frechet distance on the embedded classifier (not an FID), samples: {counts}."
    stdout().print(Table("runs", columns, tuple(rows), protocol))


def report_run(run: Path, *, json: bool) -> None:
    """Write ``report.html`` into ``run``: tables, pictures, curves, the recipe.

    Raises:
        ConfigError: the run is not finished, or the extra ``report`` is missing.
    """
    from PIL import Image

    from gancompress.reporting.html import Page, Picture, write_html

    summary = read_summary(run)
    pictures = []
    for name, title in (
        (BEFORE_AFTER, "Teacher above student"),
        (SAMPLE_GRID, "Samples"),
    ):
        if (run / name).is_file():
            with Image.open(run / name) as image:
                pictures.append(Picture(title, image.convert("RGB")))
    texts = [(n, (run / n).read_text()) for n in (CONFIG, ENVIRONMENT) if (run / n).is_file()]
    page = Page(
        title=f"{summary['recipe']} on {summary['model']}",
        lead=f"Run {run.name}, {summary['steps']} steps, seed {summary['seed']}.",
        tables=[_size_table(summary)] if "size" in summary else [],
        pictures=pictures,
        curves=drawn_curves(run),
        texts=texts,
    )
    file = write_html(page, run / REPORT)
    if json:
        emit("report", {"file": str(file), "bytes": file.stat().st_size})
        return
    stdout().print(Text(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)"), soft_wrap=True)
    note("one file, nothing is loaded from the network: it can be mailed")


def drawn_curves(run: Path) -> list[tuple[str, str]]:
    """Return title and SVG of each figure that the run's ``metrics.jsonl`` has numbers for.

    Raises:
        ConfigError: the extra ``report`` is missing.
    """
    from gancompress.reporting.curves import curves, read_metrics

    drawn = []
    if (run / METRICS).is_file():
        records = read_metrics(run / METRICS)
        for title, names in CURVES.items():
            if present := [n for n in names if any(r.get(n) is not None for r in records)]:
                drawn.append((title, curves(records, present)))
    return drawn


def _size_table(summary: dict[str, Any]) -> Any:
    from gancompress.reporting.tables import before_after, fewer, si

    old, new = summary["size"]["teacher"], summary["size"]["small"]
    rows = [
        (name, si(old[key]), si(new[key]), fewer(old[key], new[key], word))
        for name, key, word in (
            ("parameters", "params", "fewer"), ("MACs an image", "macs", "fewer"),
            ("bytes of weights", "bytes", "smaller"),
        )
    ]  # fmt: skip
    quality = summary["quality"]
    protocol = "MACs = FLOPs / 2."
    for key in ("frechet_classifier", "precision", "recall", "conditional_accuracy"):
        was, now = quality.get("teacher", {}).get(key), quality.get("student", {}).get(key)
        if was is not None and now is not None:
            rows.append((key.replace("_", " "), f"{was:.3f}", f"{now:.3f}", f"{now - was:+.3f}"))
            protocol = (
                f"MACs = FLOPs / 2. Quality: {quality['student']['n']} samples, seed "
                f"{quality['student']['seed']}, features {quality['student']['features']}."
            )
    return before_after("Before and after", rows, protocol)


def _rank(summary: dict[str, Any]) -> tuple[float, float]:
    distance = summary["quality"].get("student", {}).get("frechet_classifier")
    return (float("inf") if distance is None else distance, -summary.get("compression", 0.0))


def _figure(quality: dict[str, Any], key: str, form: str) -> str:
    value = quality.get(key)
    return "-" if value is None else format(value, form)
