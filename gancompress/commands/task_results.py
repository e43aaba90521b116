"""The end of a run of any task: distances on held-out inputs, pictures side by side, and sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.tasks.protocol import Batch, Task
from gancompress.training.samples import write_wav

ROWS = 6
SOUNDS = 3

NAMES = {
    "l1": "L1",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "sharpness": "sharpness",
    "log_mel": "log mel",
    "stft": "log STFT",
}
"""What `gancompress.metrics.distances` calls its figures, in the words of the table."""


def task_rows(quality: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield rows (name, before, after, change) of distances to the teacher and what was wanted."""
    was, now = quality.get("teacher", {}), quality["student"]
    for key, value in now.get("to_teacher", {}).items():
        yield f"to teacher: {NAMES[key]}", "", f"{value:.4g}", ""
    for key, value in now.get("to_wanted", {}).items():
        if key == "sharpness":
            continue  # of noise and edges alike: it tells something beside the teacher only
        before = was.get("to_wanted", {}).get(key)
        shown = "" if before is None else f"{before:.4g}"
        change = "" if not before or before * value <= 0 else f"{value / before:.3f}x"
        yield f"to wanted: {NAMES[key]}", shown, f"{value:.4g}", change


def protocol_of(quality: Mapping[str, Mapping[str, Any]], task: Task) -> str:
    """Return how the figures of `task_rows` were measured."""
    n = quality["student"]["n"]
    return f" Distances: task {task.name}, {n} held-out inputs, values on the scale [-1, 1]."


def task_picture(task: Task, student: nn.Module, teacher: nn.Module | None, file: Path) -> None:
    """Write held-out inputs beside what is wanted, the teacher's and the student's outputs.

    Raises:
        DataError: the outputs are no pictures.
    """
    from gancompress.reporting.pictures import grid, save_png

    batch = next(iter(task.held_out(ROWS, ROWS)))
    columns = _columns(task, batch, student, teacher)
    wide = columns[-1][1].shape
    fitting = [(title, _as_wide(x, wide)) for title, x in columns if x.ndim == 4]
    stack = torch.stack([x for _, x in fitting], 1).flatten(0, 1)
    titles = [title for title, _ in fitting]
    save_png(grid(stack, len(fitting), shown=task.values, column_titles=titles), file)


def task_sounds(
    task: Task, student: nn.Module, teacher: nn.Module | None, folder: Path
) -> list[Path]:
    """Write wav files of some held-out pieces: wanted, teacher's and student's; return them."""
    assert task.rate is not None
    folder.mkdir(exist_ok=True)
    batch = next(iter(task.held_out(SOUNDS, SOUNDS)))
    written: list[Path] = []
    for title, sound in _columns(task, batch, student, teacher):
        if title == "input":
            continue
        for i, piece in enumerate(sound):
            file = folder / f"{i}_{title}.wav"
            write_wav(file, piece, task.rate)
            written.append(file)
    return written


@torch.no_grad()
def _columns(
    task: Task, batch: Batch, student: nn.Module, teacher: nn.Module | None
) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    first = batch.inputs[0] if batch.inputs else None
    if isinstance(first, Tensor) and first.ndim == 4:
        found.append(("input", first))
    if batch.wanted is not None:
        found.append(("wanted", batch.wanted))
    if teacher is not None:
        found.append(("teacher", task.output(batch.run(teacher))))
    found.append(("student", task.output(batch.run(student))))
    return [(title, x.detach().float().cpu()) for title, x in found]


def _as_wide(x: Tensor, shape: torch.Size) -> Tensor:
    """Return pictures enlarged to the outputs' size, grey ones in three channels beside colour."""
    if x.shape[2:] != shape[2:]:
        x = nn.functional.interpolate(x, size=tuple(shape[2:]), mode="nearest")
    channels = 3 if shape[1] >= 3 else 1
    x = x[:, :channels]
    return x if x.shape[1] == channels else x[:, :1].expand(-1, channels, -1, -1)
