"""``gancompress sample``: a grid of images, alone or under the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.text import Text

from gancompress.commands.console import emit, stdout
from gancompress.commands.resolve.eval_task import original_of
from gancompress.commands.resolve.subject import Subject, resolve
from gancompress.commands.resolve.try_forward import probe
from gancompress.errors import ConfigError

COLUMNS = 10


def sample(
    *,
    what: str | None,
    model: str | None,
    weights: str | None,
    inputs: Sequence[str] | None,
    output: str | None,
    number: int,
    compare: bool,
    out: Path,
    seed: int,
    device: str,
    json: bool,
) -> None:
    """Write ``number`` images, rounded up to whole rows of ten, to the PNG ``out``.

    Raises:
        ConfigError: ``out`` exists, or there is no teacher to compare with.
    """
    from gancompress.reporting.pictures import before_after_grid, sample_grid, save_png

    if out.exists():
        raise ConfigError(f"{out} exists. Choose another name with --out")
    if compare and (what is None or ":" in what):
        raise ConfigError("--compare needs a run folder: its student goes below the teacher")
    own = None if compare else weights
    subject = resolve(what, model, weights=own, inputs=inputs, output=output, device=device)
    probe(subject)
    rows = -(-number // COLUMNS)
    if compare:
        teacher = teacher_of(subject, weights, device)
        image = before_after_grid(
            teacher.generator, subject.generator, subject.sampler,
            n_classes=subject.n_classes, rows=rows, columns=COLUMNS, seed=seed,
        )  # fmt: skip
    else:
        image = sample_grid(
            subject.generator, subject.sampler,
            n_classes=subject.n_classes, rows=rows, columns=COLUMNS, seed=seed,
        )  # fmt: skip
    save_png(image, out)
    if json:
        emit("sample", {"model": subject.spec, "file": str(out), "n": rows * COLUMNS, "seed": seed})
        return
    stdout().print(Text(f"wrote {out} ({rows * COLUMNS} images, seed {seed})"), soft_wrap=True)


def teacher_of(subject: Subject, weights: str | None, device: str) -> Subject:
    """Return the teacher that the run of ``subject`` started from.

    Raises:
        ConfigError: its weights are not there any more, and no others are given.
    """
    if weights is None and subject.run is not None:
        found = original_of(subject, None, None, device)
        if found is None:
            raise ConfigError("the teacher's weights are needed beside the run: --weights FILE")
        return replace(subject, generator=found)
    return resolve(
        None, subject.spec, weights=weights, inputs=subject.origin["input"], device=device
    )
