"""``gancompress sample``: a grid of images, alone or beside the teacher's; sound to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.text import Text
from torch import nn

from gancompress.commands.console import emit, stdout
from gancompress.commands.resolve.eval_task import original_of
from gancompress.commands.resolve.subject import Subject, resolve
from gancompress.commands.resolve.try_forward import probe
from gancompress.errors import ConfigError
from gancompress.reporting.side_by_side import shows_inputs
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Task

COLUMNS = 10
SOUNDS = 6
"""Pieces of sound written at most."""


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

    A generator that reads files is shown on held-out ones, each output beside its input and what is
    wanted; sound as waveforms and mel spectrograms, with wav files beside the picture.

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
    if (task := read_task(subject, seed)) is not None:
        teacher = teacher_of(subject, weights, device).generator if compare else None
        count = sample_task(task, subject, teacher, number, out)
        told(subject, out, count, seed if subject.task is None else "held out", json=json)
        return
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
    told(subject, out, rows * COLUMNS, seed, json=json)


def told(subject: Subject, out: Path, count: int, seed: int | str, *, json: bool) -> None:
    """Say what was written, as a line or as JSON."""
    if json:
        emit("sample", {"model": subject.spec, "file": str(out), "n": count, "seed": seed})
        return
    how = f"seed {seed}" if isinstance(seed, int) else seed
    stdout().print(Text(f"wrote {out} ({count} samples, {how})"), soft_wrap=True)


def read_task(subject: Subject, seed: int) -> Task | None:
    """Return the task whose inputs are read from files, or that makes sound; ``None``: neither.

    A run knows its own; other files are chosen by ``seed``.
    """
    if subject.task is not None and (shows_inputs(subject.task) or subject.task.rate is not None):
        return subject.task
    if subject.task is None and subject.sampler.files:
        return Noise(subject.sampler, None, seed)
    return None


def sample_task(
    task: Task, subject: Subject, teacher: nn.Module | None, number: int, out: Path
) -> int:
    """Write at most ``number`` held-out samples side by side, and return how many.

    Raises:
        DataError: the outputs are neither pictures nor sound.
    """
    from gancompress.reporting.pictures import save_png
    from gancompress.reporting.side_by_side import beside, held_out_columns
    from gancompress.reporting.sound_pictures import sound_sheet
    from gancompress.training.samples import write_wav

    columns = held_out_columns(task, subject.generator, teacher, number)
    count = len(columns[0][1])
    if task.rate is None:
        save_png(beside(columns, task.values, wide=COLUMNS), out)
        return count
    kept = [(title, x[:SOUNDS]) for title, x in columns]
    save_png(sound_sheet(kept, task.rate), out)
    for title, sound in kept:
        for i, piece in enumerate(sound):
            write_wav(
                out.with_name(f"{out.stem}_{i}_{title.replace(' ', '-')}.wav"), piece, task.rate
            )
    return min(count, SOUNDS)


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
