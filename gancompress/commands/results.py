"""The end of a run: figures, picture, summary, model card and the next command to type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text
from torch import nn

from gancompress.commands.console import SCHEMA, emit, note, stdout
from gancompress.commands.resolve.subject import EMBEDDED, Subject
from gancompress.errors import ConfigError, DataError
from gancompress.recipes.schema import Recipe
from gancompress.training.run_files import BEFORE_AFTER, MODEL, PLOTS, SAMPLE_GRID
from gancompress.training.run_folder import write_summary

SAMPLES = 2000
"""How many samples the closing figures are measured on."""

PROMISED = 0.02
"""How far off its target a size may be without a word."""


@dataclass(frozen=True)
class Finished:
    """What a finished run hands to its closing."""

    kind: str
    recipe: Recipe
    teacher: nn.Module | None
    student: Subject
    run: Path
    steps: int
    seconds: float
    verified: dict[str, Any] | None
    device: str


def close(done: Finished, *, json: bool) -> dict[str, Any]:
    """Measure, draw and write what the run leaves; print the table, or the summary as JSON."""
    from gancompress.reporting.pictures import before_after_grid, sample_grid

    subject, teacher = done.student, done.teacher
    student = subject.generator.cpu()
    student.eval()
    n_classes = subject.n_classes
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": done.kind,
        "recipe": done.recipe.name,
        "model": subject.spec,
        "seed": done.recipe.seed,
        "device": done.device,
        "precision": done.recipe.precision,
        "steps": done.steps,
        "images_seen": done.steps * done.recipe.batch,
        "seconds": round(done.seconds, 1),
        "run": str(done.run),
        "model_folder": str(done.run / MODEL),
    }
    if subject.spec == EMBEDDED:
        note(f"measuring on {SAMPLES} samples")
    quality = {"student": quality_of(student, subject)}
    if teacher is None:
        draw = partial(sample_grid, student, subject.sampler, n_classes=n_classes)
        picture = drawn_picture(draw, done.run / SAMPLE_GRID)
        table: Any = single_table(done, quality["student"])
    else:
        teacher = teacher.cpu()
        teacher.eval()
        draw = partial(before_after_grid, teacher, student, subject.sampler, n_classes=n_classes)
        picture = drawn_picture(draw, done.run / BEFORE_AFTER)
        quality["teacher"] = quality_of(teacher, subject)
        table = comparison(done, teacher, student, quality, summary)
    summary |= {"quality": quality, "picture": picture and str(picture), "verify": done.verified}
    write_summary(done.run, summary)
    draw_plots(done.run)
    if json:
        emit(done.kind, summary)
        return summary
    console = stdout()
    console.print(table)
    for name, place in (("picture", picture), ("model", done.run / MODEL), ("run", done.run)):
        if place is not None:
            console.print(Text(f"{name:8s} {place}"), soft_wrap=True)
    console.print(
        Text(f"next     {next_command(done, shown=picture is not None)}", style="bold"),
        soft_wrap=True,
    )
    return summary


def drawn_picture(draw: Callable[[], Any], file: Path) -> Path | None:
    """Write what ``draw`` returns to ``file``; None, and a word, where it cannot be shown."""
    from gancompress.reporting.pictures import save_png

    try:
        save_png(draw(), file)
    except DataError as error:  # sound, volumes, another range: the run is good all the same
        note(f"no picture: {error}")
        return None
    return file


def draw_plots(run: Path) -> None:
    """Write ``plots/*.svg``: losses, logits, size and speed over the steps."""
    from gancompress.commands.compare import drawn_curves

    try:
        drawn = drawn_curves(run)
    except ConfigError as error:  # the plots are an extra, the run is not
        note(f"no plots: {error}")
        return
    for title, picture in drawn:
        file = run / PLOTS / f"{title.lower().replace(' ', '_')}.svg"
        file.parent.mkdir(exist_ok=True)
        file.write_text(picture, encoding="utf-8")


def quality_of(generator: nn.Module, subject: Subject) -> dict[str, Any]:
    """Return the metrics of ``generator``, or why there are none for images of this kind."""
    from gancompress.metrics.evaluate import evaluate

    if subject.spec != EMBEDDED:
        return {"skipped": "the embedded metrics judge images of the embedded data only"}
    try:
        return evaluate(generator, subject.sampler, n=SAMPLES, seed=0)
    except DataError as error:
        return {"skipped": str(error)}


def comparison(
    done: Finished,
    teacher: nn.Module,
    student: nn.Module,
    quality: dict[str, dict[str, Any]],
    summary: dict[str, Any],
) -> Any:
    """Return the before/after table, and put its figures into ``summary``."""
    import gancompress as gc
    from gancompress.reporting.tables import before_after, fewer

    example = done.student.example(1)
    measured = gc.report(teacher, student, example=example)
    figures = measured.to_dict()
    summary["compression"] = figures.pop("compression")
    summary["size"] = figures
    goal = done.recipe.target
    if goal is not None:
        reached = off_target(goal, measured.teacher, measured.small)
        summary |= {"target": goal, "off_target": reached}
        if abs(reached) > PROMISED:
            note(
                f"{reached:+.1%} off the target {goal}: whole channels (in steps of "
                f"round_to={done.recipe.round_to}) came no nearer. If that matters, try a target a "
                "little above or below, or a smaller round_to"
            )
    base = measured.table()
    rows = list(base.rows)
    was, now = quality["teacher"], quality["student"]
    if "skipped" not in was and "skipped" not in now:
        key = "frechet_classifier"
        rows.append((
            f"Frechet distance (real: {now['frechet_floor']:.3g})",
            f"{was[key]:.4f}", f"{now[key]:.4f}", fewer(was[key], now[key], "lower"),
        ))  # fmt: skip
        for key in ("precision", "recall", "conditional_accuracy"):
            if was[key] is not None:
                gap = f"{now[key] - was[key]:+.3f}"
                rows.append((key.replace("_", " "), f"{was[key]:.3f}", f"{now[key]:.3f}", gap))
    if done.verified is not None:
        rows.append(("cut, largest error (float64)", "", "", f"{done.verified['max_error']:.1e}"))
    protocol = base.note
    if "skipped" not in now:
        protocol += (
            f" Quality: {now['n']} samples, seed {now['seed']}, features {now['features']} "
            "(not an FID)."
        )
    title = f"{done.recipe.name}: before and after, {done.steps} steps in {_clock(done.seconds)}"
    return before_after(title, rows, protocol)


def off_target(goal: str, teacher: Any, small: Any) -> float:
    """Return how far the size is from ``goal``: 0.01 is 1 % larger than asked."""
    from gancompress.target import Target

    target = Target.parse(goal)
    return target.of(small) / (target.fraction * target.of(teacher)) - 1


def single_table(done: Finished, quality: dict[str, Any]) -> Any:
    """Return the table of a generator that has no teacher."""
    from gancompress.commands.evaluate import quality_table
    from gancompress.metrics.cost import footprint
    from gancompress.reporting.tables import Table, si

    size = footprint(done.student.generator, done.student.example(1))
    title = f"{done.recipe.name}: {done.steps} steps in {_clock(done.seconds)}"
    if "skipped" in quality:
        rows = (("parameters", si(size.params)), ("MACs an image", si(size.macs)))
        return Table(title, ("", "generator"), rows, quality["skipped"])
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
