"""Sample grids written while training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gancompress.errors import StorageError
from gancompress.modules.undisturbed import evaluating
from gancompress.tasks.protocol import Task

COLUMNS = 10
Range = tuple[float, float]
"""The values that are shown black and white."""


@torch.no_grad()
def save_preview(
    generator: nn.Module, task: Task, device: torch.device, stem: Path, shown: Range
) -> Path | None:
    """Write what ``generator`` makes of the task's preview, and return the file.

    ``stem.png``: a grid, of a task that reads pictures each beside its input and the wanted one;
    ``stem.wav``: the first piece of sound. ``None``: nothing that can be shown.
    """
    batch = task.preview(COLUMNS)
    with evaluating(generator):
        made = task.output(batch.to(device).run(generator))
    if task.rate is not None and made.ndim == 3:
        write_wav(stem.with_suffix(".wav"), made[0], task.rate)
        return stem.with_suffix(".wav")
    if made.ndim != 4:
        return None
    from gancompress.reporting.pictures import save_png
    from gancompress.reporting.side_by_side import beside, named_columns, shows_inputs

    file = stem.with_suffix(".png")
    if not shows_inputs(task):
        save_grid(made, file, shown=shown)
    else:
        save_png(beside(named_columns(batch, made, None), shown, wide=COLUMNS), file)
    return file


@torch.no_grad()
def sample_images(generator: nn.Module, task: Task, device: torch.device) -> Tensor:
    """Return what ``generator`` makes, in eval mode, of the task's preview: (n, c, h, w)."""
    with evaluating(generator):
        return task.output(task.preview(COLUMNS).to(device).run(generator))


def save_grid(
    images: Tensor, file: Path, *, columns: int = COLUMNS, shown: Range = (-1.0, 1.0)
) -> bool:
    """Write images (n, c, h, w) as a PNG with ``columns`` images a row; ``shown`` is black, white.

    What is no picture (sound, volumes) is not written: ``False``. The rule of what is shown, and in
    which range, is that of the closing pictures: `gancompress.reporting.pictures`.
    """
    if images.ndim != 4:
        return False
    from gancompress.reporting.pictures import save_png, sheet_of, to_pixels

    save_png(sheet_of(to_pixels(images, shown), columns), file)
    return True


def write_wav(file: Path, sound: Tensor, rate: int) -> None:
    """Write a piece of sound (channels, samples) in [-1, 1] as mono, 16 bits; louder is clipped.

    Raises:
        StorageError: the folder cannot be made or written.
    """
    from scipy.io import wavfile

    samples = sound.detach().float().cpu().mean(0).clamp(-1, 1).mul(32767).round()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(file, rate, samples.to(torch.int16).numpy())
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}") from error


def shown_range(generator: nn.Module, task: Task, device: torch.device) -> Range:
    """Return black and white of the sample grids: [-1, 1] beside data, else what is found."""
    images = torch.empty(0) if task.has_real else sample_images(generator, task, device)
    if images.ndim != 4:
        return (-1.0, 1.0)
    from gancompress.reporting.pictures import value_range

    return value_range(images)
