"""The quality figures that a run ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from gancompress.commands.console import note
from gancompress.commands.finished import Finished
from gancompress.commands.resolve.subject import Subject
from gancompress.commands.taken import taken_of
from gancompress.commands.task_results import worst_sounds
from gancompress.errors import DataError
from gancompress.metrics.classifier import FEATURES
from gancompress.metrics.features import Described
from gancompress.metrics.taken import Toll
from gancompress.reporting.worst_examples import Farthest
from gancompress.training.run_files import SOUNDS, WORST

SAMPLES = 2000
"""How many samples the closing figures of the embedded generator are measured on."""

OUTPUTS = 256
"""How many outputs of any other generator."""

FEW = 64
"""How many of the embedded one are compared one by one with its teacher's."""


def measured_quality(done: Finished, seen: dict[str, Described]) -> dict[str, dict[str, Any]]:
    """Return the metrics of the student and, where there is one, of its teacher.

    ``seen`` gets what the embedded features told of the samples of either.
    """
    from gancompress.tasks.feature_quality import feature_quality
    from gancompress.tasks.quality import task_quality

    networks = {"student": done.student.generator, "teacher": done.teacher}
    farthest = Farthest(done.task)
    found: dict[str, dict[str, Any]] = {}
    if done.embedded:
        note(f"measuring on {SAMPLES} samples")
    for who, network in networks.items():
        if network is None:
            continue
        if done.embedded:
            found[who] = quality_of(network, done.student, partial(seen.__setitem__, who))
            if done.teacher is not None and who == "student":
                task_quality(done.task, network, done.teacher, n=FEW, seen=farthest.see)
        else:
            other = done.teacher if who == "student" else None
            found[who] = task_quality(done.task, network, other, n=OUTPUTS, seen=farthest.see)
        # The embedded generator is measured on the embedded features as it is.
        if done.features is not None and not (done.embedded and done.features.name == FEATURES):
            found[who]["on_features"] = feature_quality(
                done.task, network, done.features, teacher=done.teacher, n=OUTPUTS
            )
    if done.teacher is not None:
        found["student"]["worst"] = farthest.record()
        draw_worst(farthest, done.run / WORST)
        if done.task.rate is not None:
            worst_sounds(farthest, done.run / SOUNDS)
    return found


def taken_by(done: Finished, seen: Mapping[str, Described]) -> Toll | None:
    """Return what compression took from each class; ``None`` where no features look at them."""
    if done.teacher is None:
        return None
    student = done.student
    features = None if done.embedded else done.features
    n = SAMPLES if done.embedded else OUTPUTS
    both = [seen["teacher"], seen["student"]] if len(seen) == 2 else None
    return taken_of(
        done.task, student, done.teacher, features, embedded=done.embedded, n=n, seen=both
    )


def draw_worst(farthest: Farthest, file: Path) -> None:
    """Write the samples farthest from the teacher's; only a word, where they are no pictures."""
    from gancompress.reporting.pictures import save_png

    try:
        save_png(farthest.picture(), file)
    except DataError as error:
        note(f"no picture of the worst examples: {error}")


def quality_of(
    generator: nn.Module, subject: Subject, seen: Callable[[Described], None]
) -> dict[str, Any]:
    """Return the metrics of the embedded ``generator``, or what keeps it from being measured."""
    from gancompress.metrics.evaluate import evaluate

    try:
        return evaluate(generator, subject.sampler, n=SAMPLES, seed=0, seen=seen)
    except DataError as error:
        return {"skipped": str(error)}


def quality_rows(quality: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield one row a metric that both networks have: name, before, after, change."""
    from gancompress.reporting.tables import fewer

    was, now = quality["teacher"], quality["student"]
    if "skipped" in was or "skipped" in now:
        return
    key = "frechet_classifier"
    yield (
        f"Frechet distance (real: {now['frechet_floor']:.3g})",
        f"{was[key]:.4f}", f"{now[key]:.4f}", fewer(was[key], now[key], "lower"),
    )  # fmt: skip
    for key in ("precision", "recall", "conditional_accuracy"):
        if was[key] is not None:
            gap = f"{now[key] - was[key]:+.3f}"
            yield key.replace("_", " "), f"{was[key]:.3f}", f"{now[key]:.3f}", gap
