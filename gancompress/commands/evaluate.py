"""``gancompress eval``: quality and size of one generator, every number with its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gancompress.commands.console import emit, note, stdout
from gancompress.commands.resolve.datasets import DataFlags, open_data, say_data
from gancompress.commands.resolve.subject import Subject, resolve, resolved_device
from gancompress.commands.resolve.try_forward import probe
from gancompress.recipes.load import load_recipe
from gancompress.tasks.protocol import TASKS, Sources, Task
from gancompress.training.run_files import CONFIG


def evaluate(
    *,
    what: str | None,
    model: str | None,
    weights: str | None,
    data: str | None,
    inputs: Sequence[str] | None,
    output: str | None,
    number: int,
    seed: int,
    device: str,
    json: bool,
) -> None:
    """Print Frechet distance, PRDC and conditional accuracy on ``number`` samples."""
    from gancompress.data.folders import open_images
    from gancompress.metrics.cost import footprint
    from gancompress.metrics.evaluate import evaluate as measure

    subject = resolve(what, model, weights=weights, inputs=inputs, output=output, device=device)
    size = footprint(subject.generator, probe(subject))
    if (task := measured_by(subject, data)) is not None:
        show_distances(subject, task, number, size, json=json)
        return
    reference: dict[str, Any] = {} if data is None else {"reference": open_images(data)}
    if reference:
        say_data(reference["reference"])
    note(f"drawing {number} samples, seed {seed}")
    home = resolved_device(device)
    found = measure(
        subject.generator, subject.sampler, n=number, seed=seed, device=home, **reference
    )
    if json:
        sizes = {"params": size.params, "macs": size.macs, "bytes": size.bytes}
        emit("eval", {"model": subject.spec, **sizes, **found})
        return
    stdout().print(quality_table(what or subject.spec, found, size.params, size.macs))


def measured_by(subject: Subject, data: str | None) -> Task | None:
    """Return the task whose distances are to be measured; ``None``: the embedded metrics fit."""
    if subject.task is None or data is None or subject.run is None:
        return subject.task
    # Other data for the same task: measured on all of it, since no training saw any.
    recipe = load_recipe(subject.run / CONFIG)
    assert recipe.task is not None
    flags = DataFlags.of(subject.origin.get("data_flags") or {})
    whole = recipe.task.model_copy(update={"held_out": 0.0})
    return TASKS.bind(whole)(Sources(None, open_data(data, flags), recipe.seed))


def show_distances(subject: Subject, task: Task, number: int, size: Any, *, json: bool) -> None:
    """Print distances to what was wanted on held-out inputs."""
    from gancompress.commands.task_results import protocol_of, task_rows
    from gancompress.reporting.tables import Table, si
    from gancompress.tasks.quality import task_quality

    found = task_quality(task, subject.generator, n=number)
    if json:
        sizes = {"params": size.params, "macs": size.macs, "bytes": size.bytes}
        emit("eval", {"model": subject.spec, "task": task.name, **sizes, **found})
        return
    cells = [(name, value) for name, _, value, _ in task_rows({"student": found})]
    cells += [("parameters", si(size.params)), ("MACs an image", si(size.macs))]
    text = protocol_of({"student": found}, task).strip()
    stdout().print(Table(str(subject.run), ("", "generator"), tuple(cells), text))


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
