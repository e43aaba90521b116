"""``gancompress report``: one finished run as an HTML file, everything inside."""

from __future__ import annotations

import contextlib
import json as jsonlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from gancompress.commands.compare import read_summary, readable
from gancompress.commands.console import emit, note, stdout
from gancompress.commands.feature_rows import feature_rows, features_protocol
from gancompress.commands.load_code import load_code
from gancompress.commands.task_results import task_rows
from gancompress.commands.watch import state_of
from gancompress.errors import ConfigError, visible
from gancompress.reporting.sound_section import players
from gancompress.reporting.task_section import task_pictures
from gancompress.reporting.verdict import KEPT
from gancompress.storage import read_plain
from gancompress.training.run_files import (
    AFTER,
    BEFORE,
    COMMAND,
    CONFIG,
    ENVIRONMENT,
    EVENTS,
    METRICS,
    REPORT,
    SOUNDS,
    SUBJECT,
)

CURVES = {
    "Losses": ("g_loss", "d_loss", "distill", "penalty"),
    "Output of the discriminator": ("real", "fake"),
    "Parameters": ("params",),
    "Speed": ("images_per_second",),
}
"""Figures of a report: title, and the keys of metrics.jsonl drawn in it."""

ROUTINE = ("shrink", "unmask", "groups")
"""Events that every run has: its curves show them."""


def report(run: Path, *, kept: float = KEPT, json: bool) -> None:
    """Write ``report.html`` into ``run``: tables, notes, pictures, curves, the recipe.

    ``kept`` is the threshold of its verdict on quality, see `reporting.verdict.verdicts`.

    Raises:
        ConfigError: the run is not finished, ``kept`` is below 1, or the extra ``report`` is
            missing.
        CheckpointError: its summary is damaged.
    """
    from gancompress.reporting.html import write_html

    if not kept >= 1:
        raise ConfigError(f"--kept is {kept:g}; it must be at least 1: the teacher's own quality")
    summary = read_summary(run)
    with readable(run):
        page = page_of(run, summary, kept=kept)
    file = write_html(page, run / REPORT)
    if json:
        emit("report", {"file": str(file), "bytes": file.stat().st_size})
        return
    stdout().print(Text(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)"), soft_wrap=True)
    note("one file, nothing is loaded from the network: it can be mailed")


MAX_TEXT = 2**20
"""Bytes of a record that a report shows; ours are a few thousand."""
MAX_EVENTS = 2**24
MAX_NOTES = 200


def page_of(run: Path, summary: dict[str, Any], *, kept: float = KEPT) -> Any:
    """Return the page of a finished run.

    Its parts come from `gancompress.reporting`: what is special to a task, from `task_section`.
    """
    from PIL import Image

    from gancompress.data.pictures import decode
    from gancompress.metrics.taken import Toll
    from gancompress.reporting.curves import themed
    from gancompress.reporting.html import Page, Picture
    from gancompress.reporting.taken_table import taken_table
    from gancompress.reporting.verdict import verdicts

    taken = summary.get("taken")
    pictures: list[Picture] = []
    for name, title, caption in task_pictures(summary):
        if (run / name).is_file():
            pixels = decode(run / name, str(run / name), colour=True, bits=8)
            pictures.append(Picture(title, Image.fromarray(pixels), caption))
    sounds, left_out = players(run / SOUNDS)
    names = (CONFIG, ENVIRONMENT, SUBJECT, COMMAND)
    texts = [
        (n, visible(read_plain(run / n, MAX_TEXT).decode("utf-8")))
        for n in names
        if (run / n).is_file()
    ]
    return Page(
        title=f"{summary['recipe']} on {summary['model']}",
        lead=f"Run {run.name}, {summary['steps']} steps, seed {summary['seed']}"
        + (f", {summary['seconds']:.0f} s" if "seconds" in summary else "")
        + (f" on {summary['device']}." if "device" in summary else "."),
        tables=[
            *([_size_table(summary)] if "size" in summary else []),
            *([taken_table(Toll.of_record(taken), _class_names(taken))] if taken else []),
        ],
        pictures=pictures,
        curves=[(title, themed(svg)) for title, svg in drawn_curves(run)],
        texts=texts,
        notes=list(dict.fromkeys([*_findings(summary), *left_out, *_told(run, summary)]))[
            :MAX_NOTES
        ],
        sounds=sounds,
        verdicts=verdicts(summary, kept=kept),
        slider=_slider(run),
        widths=_widths(run),
        load=load_code(run, summary) if (run / "model").is_dir() else "",
    )


def _class_names(taken: Mapping[str, Any]) -> list[str] | None:
    """Return the names of classes that the run kept; runs of before had the embedded ones only."""
    from gancompress.data.fashion import CLASSES

    names = taken.get("names", CLASSES)
    return None if not names else [visible(str(name)) for name in names]


def _slider(run: Path) -> Any:
    from PIL import Image

    from gancompress.reporting.html import Slider

    files = run / BEFORE, run / AFTER
    if not all(file.is_file() for file in files):
        return None
    made: list[Image.Image] = []
    for file in files:
        with Image.open(file) as image:
            made.append(image.convert("RGB"))
    words = "The same inputs through both. Drag the handle, or use the arrow keys."
    return Slider("Teacher and student", made[0], made[1], caption=words)


def _widths(run: Path) -> list[Any]:
    """Return channels before and after by group, where the run counted them."""
    from gancompress.reporting.html import Width

    state = state_of(run)
    full, now = state["full"], state["widths"]
    return [Width(n, full[n], now[n]) for n in full if n in now and now[n] <= full[n] > 0]


def drawn_curves(run: Path) -> list[tuple[str, str]]:
    """Return title and SVG of each figure that the run's ``metrics.jsonl`` has numbers for.

    Raises:
        ConfigError: the extra ``report`` is missing.
    """
    from gancompress.reporting.curves import curves, read_metrics, width_curves

    drawn: list[tuple[str, str]] = []
    if (run / METRICS).is_file():
        records = read_metrics(run / METRICS)
        for title, names in CURVES.items():
            if present := [n for n in names if any(r.get(n) is not None for r in records)]:
                drawn.append((title, curves(records, present)))
        if found := width_curves(records):
            drawn.append(("Channels by group", found))
    return drawn


def _size_table(summary: dict[str, Any]) -> Any:
    from gancompress.reporting.tables import before_after

    rows = [*_cost_rows(summary), *_quality_rows(summary["quality"])]
    protocol = ["MACs = FLOPs / 2."]
    if timed := summary["size"].get("teacher_latency"):
        protocol.append(
            f"Latency: median of one pass, batch {timed['batch']}, {timed['dtype']}, "
            f"{timed['layout']}, {timed['device']}, "
            f"{timed['threads']} thread{'s' if timed['threads'] > 1 else ''}."
        )
    student = summary["quality"].get("student", {})
    if "features" not in student and "n" in student:
        protocol.append(f"Distances: {student['n']} held-out inputs, values on [-1, 1].")
    elif "n" in student:
        protocol.append(
            f"Quality: {student['n']} samples, seed {student['seed']}, features "
            f"{student['features']} (not an FID)."
        )
    if student:
        protocol.append(features_protocol(summary["quality"]).strip())
    return before_after("Before and after", rows, " ".join(protocol))


def _cost_rows(summary: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    from gancompress.reporting.tables import fewer, si

    size = summary["size"]
    old, new = size["teacher"], size["small"]
    for name, key, word in (
        ("parameters", "params", "fewer"), ("MACs an image", "macs", "fewer"),
        ("bytes of weights", "bytes", "smaller"),
    ):  # fmt: skip
        yield name, si(old[key]), si(new[key]), fewer(old[key], new[key], word)
    was, now = size.get("teacher_latency"), size.get("small_latency")
    if was and now:
        change = fewer(was["median_ms"], now["median_ms"], "faster")
        yield "latency", _milliseconds(was), _milliseconds(now), change


def _milliseconds(latency: dict[str, Any]) -> str:
    return f"{latency['median_ms']:.2f} ms (IQR {latency['iqr_ms']:.2f})"


def _quality_rows(quality: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key in ("frechet_classifier", "precision", "recall", "conditional_accuracy"):
        was, now = quality.get("teacher", {}).get(key), quality.get("student", {}).get(key)
        if was is not None and now is not None:
            yield key.replace("_", " "), f"{was:.3f}", f"{now:.3f}", f"{now - was:+.3f}"
    if "student" in quality:
        yield from task_rows(quality)
        yield from feature_rows(quality)


def _findings(summary: dict[str, Any]) -> Iterator[str]:
    """Yield target, verification, output difference and what was not measured, as sentences."""
    if summary.get("target") and summary.get("off_target") is not None:
        yield f"Target {summary['target']}: the result is {summary['off_target']:+.2%} off."
    if found := summary.get("verify"):
        word = "passed" if found.get("passed") else "failed"
        yield (
            f"Verification {word}: masked and cut network differ by at most "
            f"{found['max_error']:.1e} (float64)."
        )
    if "max_difference" in (size := summary.get("size", {})):
        yield (
            f"Outputs of teacher and student differ by {size['mean_difference']:.3g} on average, "
            f"{size['max_difference']:.3g} at most."
        )
    if reason := summary["quality"].get("student", {}).get("skipped"):
        yield f"Quality was not measured: {reason}."


def _told(run: Path, summary: dict[str, Any]) -> Iterator[str]:
    """Yield what the run said while it went on."""
    yield from map(str, summary.get("notes", ()))
    if not (run / EVENTS).is_file():
        return
    for line in read_plain(run / EVENTS, MAX_EVENTS).decode("utf-8").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            event = jsonlib.loads(line)
            if event["event"] not in ROUTINE:
                yield str(event["text"])
