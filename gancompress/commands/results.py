"""The end of a run: figures, picture, summary, model card and the next command to type."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.text import Text
from torch import nn

from gancompress.commands.closing_quality import measured_quality, quality_rows, taken_by
from gancompress.commands.console import SCHEMA, emit, note, stdout
from gancompress.commands.dry_run import Speed, measured_speeds, off_targets
from gancompress.commands.feature_rows import feature_rows, features_protocol
from gancompress.commands.finished import Finished
from gancompress.commands.resolve.subject import EMBEDDED
from gancompress.commands.taken import class_names
from gancompress.commands.task_results import (
    protocol_of,
    task_picture,
    task_rows,
    task_sounds,
)
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.metrics.features import Described
from gancompress.recipes.schema import Recipe
from gancompress.reporting.taken_table import taken_table
from gancompress.storage import read_json
from gancompress.target import parse_targets
from gancompress.training.arithmetic import recorded
from gancompress.training.run_files import (
    AFTER,
    BEFORE,
    BEFORE_AFTER,
    PLOTS,
    PREDICTION,
    SAMPLE_GRID,
    SOUNDS,
)
from gancompress.training.run_folder import write_summary

PROMISED = 0.02
"""How far off its target a size may be without a word."""
PROMISED_TIME = 0.1
"""And a time: which layers give channels is not known before."""


def close(done: Finished, *, json: bool) -> dict[str, Any]:
    """Measure, draw and write what the run leaves; print the table, or the summary as JSON."""
    for network in (done.student.generator, done.teacher):
        if network is not None:
            network.cpu().eval()
    summary = facts_of(done)
    seen: dict[str, Described] = {}
    quality = measured_quality(done, seen)
    picture = drawn_picture(done)
    draw_pair(done)
    if done.teacher is None:
        table: Any = single_table(done, quality["student"])
    else:
        table = comparison(done, done.teacher, done.student.generator, quality, summary)
    summary |= {
        "quality": quality,
        "picture": picture and str(picture),
        "verify": done.verified,
        "notes": list(done.notes),
    }
    taken = taken_by(done, seen)
    if taken is not None:
        names = class_names(done.task, embedded=done.embedded)
        summary["taken"] = taken.record() | {"names": names and list(names)}
    write_summary(done.run, summary)
    draw_plots(done.run)
    if json:
        emit(done.kind, summary)
        return summary
    console = stdout()
    console.print(table)
    if taken is not None:
        console.print(taken_table(taken, class_names(done.task, embedded=done.embedded)))
    for name, place in (("picture", picture), ("model", done.run / "model"), ("run", done.run)):
        if place is not None:
            console.print(Text(f"{name:8s} {place}"), soft_wrap=True)
    command = next_command(done, shown=picture is not None)
    console.print(Text(f"next     {command}", style="bold"), soft_wrap=True)
    return summary


def facts_of(done: Finished) -> dict[str, Any]:
    """Return what is known of a run before anything is measured."""
    return {
        "schema": SCHEMA,
        "kind": done.kind,
        "recipe": done.recipe.name,
        "model": done.student.spec,
        "task": done.task.name,
        "beside": done.beside,
        "seed": done.recipe.seed,
        "device": done.device,
        "precision": (recorded(done.run) or {}).get("precision", done.recipe.precision),
        "steps": done.steps,
        "images_seen": done.steps * done.recipe.batch,
        "seconds": round(done.seconds, 1),
        "run": str(done.run),
        "model_folder": str(done.run / "model"),
    }


def drawn_picture(done: Finished) -> Path | None:
    """Write the closing picture; None, and a word, where the output is none."""
    from gancompress.reporting.pictures import before_after_grid, sample_grid, save_png

    student, sampler = done.student.generator, done.student.sampler
    classes = done.student.n_classes
    if done.task.rate is not None:
        written = task_sounds(done.task, student, done.teacher, done.run / SOUNDS)
        note(f"{len(written)} sounds to listen to in {done.run / SOUNDS}")
        return None
    try:
        if done.beside:
            file = done.run / BEFORE_AFTER
            task_picture(done.task, student, done.teacher, file)
        elif done.teacher is None:
            file = done.run / SAMPLE_GRID
            save_png(sample_grid(student, sampler, n_classes=classes), file)
        else:
            file = done.run / BEFORE_AFTER
            pair = before_after_grid(done.teacher, student, sampler, n_classes=classes)
            save_png(pair, file)
    except DataError as error:  # sound or volumes: the run is good all the same
        note(f"no picture: {error}")
        return None
    return file


def draw_pair(done: Finished) -> None:
    """Write ``teacher.png`` and ``student.png`` for the report's slider, where there are pictures.

    Why there are none is said by the closing picture already.
    """
    from gancompress.reporting.pictures import save_png
    from gancompress.reporting.slider_pair import slider_pair

    if done.teacher is None or done.task.rate is not None:
        return
    with contextlib.suppress(DataError):
        before, after = slider_pair(done.task, done.teacher, done.student.generator)
        save_png(before, done.run / BEFORE)
        save_png(after, done.run / AFTER)


def draw_plots(run: Path) -> None:
    """Write ``plots/*.svg``: losses, logits, size and speed over the steps."""
    from gancompress.commands.report import drawn_curves

    try:
        drawn = drawn_curves(run)
    except ConfigError as error:  # the plots are an extra, the run is not
        note(f"no plots: {error}")
        return
    for title, picture in drawn:
        file = run / PLOTS / f"{title.lower().replace(' ', '_')}.svg"
        file.parent.mkdir(exist_ok=True)
        file.write_text(picture, encoding="utf-8")


def comparison(
    done: Finished,
    teacher: nn.Module,
    student: nn.Module,
    quality: dict[str, dict[str, Any]],
    summary: dict[str, Any],
) -> Any:
    """Return the before/after table, and put its figures into ``summary``."""
    import gancompress as gc
    from gancompress.reporting.tables import before_after

    output = done.student.sampler.output
    measured = gc.report(teacher, student, example=done.student.example(1), output=output)
    figures = measured.to_dict()
    summary["compression"] = figures.pop("compression")
    summary["size"] = figures
    base, timed = measured.table(), list[tuple[str, ...]]()
    if done.recipe.target is not None:
        speeds = speeds_of(done, teacher)
        summary |= reached(done.recipe, measured, speeds)
        timed, summary["speed"] = speed_rows(done, speeds)
    measures = quality_rows(quality) if done.embedded else task_rows(quality)
    rows = [*base.rows, *timed, *measures, *feature_rows(quality)]
    if done.verified is not None:
        rows.append(("cut, largest error (float64)", "", "", f"{done.verified['max_error']:.1e}"))
    protocol, now = base.note, quality["student"]
    if not done.embedded:
        protocol += protocol_of(quality, done.task)
    elif "skipped" not in now:
        protocol += (
            f" Quality: {now['n']} samples, seed {now['seed']}, features {now['features']} "
            "(not an FID)."
        )
    protocol += features_protocol(quality)
    title = f"{done.recipe.name}: before and after, {done.steps} steps in {_clock(done.seconds)}"
    return before_after(title, rows, protocol)


def speeds_of(done: Finished, teacher: nn.Module) -> tuple[Speed, ...]:
    """Time both networks where the target says; none, and a word, where that is not possible."""
    before = replace(done.student, generator=teacher)
    try:
        return measured_speeds(
            before, str(done.recipe.target), done.student.generator, 1, done.device
        )
    except ConfigError as error:  # resumed on a machine without that device or engine
        note(f"the time is not measured: {error}")
        return ()


def reached(recipe: Recipe, measured: Any, speeds: Sequence[Speed]) -> dict[str, Any]:
    """Return the target and how far off it the result is; more than is promised is said."""
    targets = parse_targets(str(recipe.target))
    sizes = [t for t in targets if t.kind != "latency"]
    known = targets if speeds else sizes
    if not known:
        return {"target": recipe.target, "off_target": None}
    found = off_targets("; ".join(map(str, known)), measured.teacher, measured.small, speeds)
    off = max(found.values(), default=0.0)
    for target in known:
        one, timed = found[str(target)], target.kind == "latency"
        # Of several all hold, and only the strictest is met exactly.
        wrong = one > PROMISED or (abs(one) > PROMISED and len(targets) == 1)
        if timed and abs(one) > PROMISED_TIME and wrong:
            note(
                f"{one:+.1%} off the target {target}: time depends on which layers gave channels. "
                "If that matters, ask for a little more or less"
            )
        elif wrong and not timed:
            finer = ", or a smaller round_to" if recipe.round_to != 1 else ""
            note(
                f"{one:+.1%} off the target {target}: whole channels (in steps of "
                f"round_to={recipe.round_to}) came no nearer. If that matters, try a target a "
                f"little above or below{finer}"
            )
    return {"target": recipe.target, "off_target": off}


def speed_rows(
    done: Finished, speeds: Sequence[Speed]
) -> tuple[list[tuple[str, ...]], list[dict[str, Any]]]:
    """Return a row a setting, measured beside what was predicted, and the same for the summary."""
    foretold: dict[str, Any] = {}
    with contextlib.suppress(CheckpointError, KeyError, TypeError):
        foretold = {
            s["setting"]: s["before"] / s["after"]
            for s in read_json(done.run / PREDICTION)["speeds"]
        }
    rows, record = [], []
    for speed in speeds:
        said = foretold.get(speed.setting)
        beside = "" if said is None else f" ({said:.2f}x predicted)"
        rows.append(
            (
                f"ms a call, {speed.setting}{beside}",
                f"{speed.before * 1e3:.2f}",
                f"{speed.after * 1e3:.2f}",
                f"{speed.times:.2f}x faster",
            )
        )
        record.append({**asdict(speed), "times": speed.times, "predicted": said})
    return rows, record


def single_table(done: Finished, quality: dict[str, Any]) -> Any:
    """Return the table of a generator that has no teacher."""
    from gancompress.commands.evaluate import quality_table
    from gancompress.metrics.cost import footprint
    from gancompress.reporting.tables import Table, si

    size = footprint(done.student.generator, done.student.example(1))
    title = f"{done.recipe.name}: {done.steps} steps in {_clock(done.seconds)}"
    if not done.embedded or "skipped" in quality:
        rows = [("parameters", si(size.params)), ("MACs an image", si(size.macs))]
        if not done.embedded:
            both = (*task_rows({"student": quality}), *feature_rows({"student": quality}))
            rows += [(name, value) for name, _, value, _ in both]
        text = quality.get("skipped", protocol_of({"student": quality}, done.task).strip())
        text += features_protocol({"student": quality})
        return Table(title, ("", "generator"), tuple(rows), text)
    return quality_table(title, quality, size.params, size.macs)


def next_command(done: Finished, *, shown: bool = True) -> str:
    """Return what to type next; of what cannot be shown, the speed."""
    # A name with a colon is the user's code: it has to be typed.
    model = f" --model {done.student.spec}" if ":" in done.student.spec else ""
    if not shown:
        return f"gancompress bench {done.run}{model}"
    if done.teacher is not None and done.student.spec == EMBEDDED:
        return f"gancompress sample {done.run} --compare --out more.png"
    return f"gancompress sample {done.run}{model} --out more.png"


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
