"""``gancompress eval``: quality and size of one generator, every number with its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.feature_rows import KEY, feature_rows, features_protocol
from gancompress.commands.resolve.datasets import DataFlags
from gancompress.commands.resolve.eval_task import original_of, task_to_measure
from gancompress.commands.resolve.feature_choice import features_for, say_features
from gancompress.commands.resolve.run_task import own_sampler
from gancompress.commands.resolve.subject import Subject, resolve, resolved_device
from gancompress.commands.resolve.try_forward import probe
from gancompress.commands.taken import class_names, taken_of
from gancompress.errors import ConfigError
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Task

if TYPE_CHECKING:
    from gancompress.reporting.worst_examples import Farthest

FASHION_SHAPE = (1, 32, 32)


def evaluate(*, asked: Mapping[str, Any]) -> None:
    """Print what can be measured of a generator; ``asked`` holds the flags of ``eval``.

    Raises:
        ConfigError: flags that do not go together, or nothing to compare with.
        DataError: data, features and generator do not fit.
        StorageError: ``--worst`` cannot be written.
    """
    from gancompress.metrics.cost import footprint
    from gancompress.reporting.pictures import save_png
    from gancompress.reporting.taken_table import taken_table
    from gancompress.reporting.worst_examples import Farthest

    number, seed, json = asked["number"], asked["seed"], asked["json"]
    flags = DataFlags.of(asked)
    worst: Path | None = asked["worst"]
    if worst is not None and worst.exists():
        raise ConfigError(f"{worst} exists. Choose another name with --worst")
    subject = resolve(
        asked["what"],
        asked["model"],
        weights=asked["weights"],
        inputs=asked["inputs"],
        output=asked["output"],
        device=asked["device"],
        later=asked["data"] is not None,
    )
    task, whole = task_to_measure(
        subject, asked["data"], flags, asked["task"], typed_inputs=bool(asked["inputs"])
    )
    subject = replace(subject, sampler=own_sampler(task, subject.sampler, subject.generator))
    size = footprint(subject.generator, probe(subject))
    task.check(subject.generator, None, ())
    spec = asked["features"]
    fashion = spec is None and compares_with_fashion(task, subject)
    teacher = None
    compressed = subject.run is not None
    if not fashion or compressed or worst is not None or asked["teacher"] is not None:
        teacher = original_of(subject, asked["teacher"], asked["model"], asked["device"])
    if worst is not None and teacher is None:
        raise ConfigError(
            "--worst shows what is far from the teacher: --teacher RUN or PKG.MODULE:FN"
        )
    features = None
    if not fashion:
        device = resolved_device(asked["device"])
        features = features_for(spec, whole, subject.generator, device)
        say_features(features, spec)
    farthest = Farthest(task)
    found = measured(task, whole, subject.generator, teacher, features, number, seed, farthest)
    toll = None
    if teacher is not None:
        found["worst"] = farthest.record()
        toll = taken_of(task, subject, teacher, features, embedded=fashion, n=number, seed=seed)
    if toll is not None:
        found["taken"] = toll.record()
    if fashion:
        show_fashion(asked["what"], subject, number, seed, size, found, json=json)
    else:
        refuse_nothing(task, found)
        show(asked["what"] or subject.spec, subject, task, found, size, json=json)
    if toll is not None and not json:
        stdout().print(taken_table(toll, class_names(task, embedded=fashion)))
    if worst is not None:
        save_png(farthest.picture(), worst)
        note(f"the {len(farthest.examples)} samples farthest from the teacher: {worst}")


def measured(
    task: Task,
    whole: Task,
    generator: nn.Module,
    teacher: nn.Module | None,
    features: Any,
    number: int,
    seed: int,
    farthest: Farthest,
) -> dict[str, Any]:
    """Return distances on ``task`` and, through ``features``, those of the sets of ``whole``."""
    from gancompress.tasks.feature_quality import feature_quality
    from gancompress.tasks.quality import task_quality

    found: dict[str, Any] = {"n": 0}
    if teacher is not None or not isinstance(task, Noise):
        note(f"measuring distances on at most {number} held-out inputs")
        found = task_quality(task, generator, teacher, n=number, seen=farthest.see)
    if features is not None:
        found[KEY] = feature_quality(
            whole, generator, features, teacher=teacher, n=number, seed=seed
        )
    return found


def compares_with_fashion(task: Task, subject: Subject) -> bool:
    """Return whether the embedded garments are what to compare with: no other data, their shape."""
    if not isinstance(task, Noise) or task.dataset is not None or not subject.sampler.specs:
        return False
    with torch.no_grad():
        home = next((p.device for p in subject.generator.parameters()), torch.device("cpu"))
        made = subject.sampler.image(
            subject.generator(*(part.to(home) for part in subject.example(2)))
        )
    return tuple(made.shape[1:]) == FASHION_SHAPE


def refuse_nothing(task: Task, found: Mapping[str, Any]) -> None:
    """Refuse to print a table without a figure.

    Raises:
        ConfigError: there is nothing to compare with.
    """
    if not {"to_teacher", "to_wanted", KEY} & set(found):
        raise ConfigError(
            f"there is nothing to compare outputs of task {task.name} with: give --data, the "
            "original (--teacher RUN or PKG.MODULE:FN), or for real outputs --features"
        )


def show_fashion(
    what: str | None,
    subject: Subject,
    number: int,
    seed: int,
    size: Any,
    distances: Mapping[str, Any],
    *,
    json: bool,
) -> None:
    """Measure against the embedded garments, and print it, beside ``distances`` to the teacher."""
    from gancompress.metrics.evaluate import evaluate as measure

    note(f"drawing {number} samples, seed {seed}")
    home = next((p.device for p in subject.generator.parameters()), torch.device("cpu"))
    found = measure(subject.generator, subject.sampler, n=number, seed=seed, device=home)
    if json:
        emit("eval", {"model": subject.spec, **_sizes(size), **distances, **found})
        return
    stdout().print(quality_table(what or subject.spec, found, size.params, size.macs))


def show(
    title: str, subject: Subject, task: Task, found: dict[str, Any], size: Any, *, json: bool
) -> None:
    """Print the figures of any task as a table, or as JSON."""
    from gancompress.commands.task_results import protocol_of, task_rows
    from gancompress.reporting.tables import Table, si

    if json:
        emit("eval", {"model": subject.spec, "task": task.name, **_sizes(size), **found})
        return
    quality = {"student": found}
    rows = (*task_rows(quality), *feature_rows(quality))
    cells = [(name, value) for name, _, value, _ in rows]
    cells += [("parameters", si(size.params)), ("MACs an image", si(size.macs))]
    text = protocol_of(quality, task) + features_protocol(quality)
    stdout().print(Table(title, ("", "generator"), tuple(cells), text.strip()))


def _sizes(size: Any) -> dict[str, int]:
    return {"params": size.params, "macs": size.macs, "bytes": size.bytes}


def quality_table(title: str, found: dict[str, Any], params: int, macs: int) -> Any:
    """Return the printable table of one evaluation, the real-against-real figures beside it."""
    from gancompress.reporting.tables import Table, si

    real = found["real"]
    rows = [
        ("Frechet distance (classifier)", found["frechet_classifier"], found["frechet_floor"]),
        *[(name, found[name], real[name]) for name in ("precision", "recall")],
        *[(name, found[name], real[name]) for name in ("density", "coverage")],
    ]
    cells = [(name, f"{value:.4g}", f"{floor:.4g}") for name, value, floor in rows]
    if found["conditional_accuracy"] is not None:
        cells.append(("conditional accuracy", f"{found['conditional_accuracy']:.2%}", ""))
    cells += [("parameters", si(params), ""), ("MACs an image", si(macs), "")]
    protocol = (
        f"{found['n']} samples, seed {found['seed']}, features {found['features']}, reference "
        f"{found['reference']}, k = {found['prdc_k']}. The Frechet distance is not an FID: its "
        "scale is that of these features."
    )
    return Table(title, ("", "generator", "real images"), tuple(cells), protocol)
