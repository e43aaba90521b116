"""The end of a run of any task: distances on held-out inputs, pictures side by side, and sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from gancompress.data.arrays import class_names_of
from gancompress.reporting.worst_examples import Farthest
from gancompress.tasks.protocol import Task
from gancompress.training.run_files import SOUND_SHEET
from gancompress.training.samples import write_wav

ROWS = 6
SOUNDS = 3
WORST_SOUNDS = 2

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
    """Return how the figures of `task_rows` were measured; nothing where there are none."""
    n = quality["student"]["n"]
    if not any(True for _ in task_rows(quality)):
        return ""
    return f" Distances: task {task.name}, {n} held-out inputs, values on the scale [-1, 1]."


def task_picture(task: Task, student: nn.Module, teacher: nn.Module | None, file: Path) -> None:
    """Write held-out inputs beside what is wanted, the teacher's and the student's outputs.

    Raises:
        DataError: the outputs are no pictures.
    """
    from gancompress.reporting.pictures import save_png
    from gancompress.reporting.side_by_side import beside, columns_of

    batch = next(iter(task.held_out(ROWS, ROWS)))
    titles: list[str] = []
    if batch.labels is not None:
        data: Any = getattr(task, "data", None)
        names = class_names_of(data)
        titles = [names[i] if names else f"class {i}" for i in batch.labels.tolist()]
    save_png(beside(columns_of(task, batch, student, teacher), task.values, titles), file)


def task_sounds(
    task: Task, student: nn.Module, teacher: nn.Module | None, folder: Path
) -> list[Path]:
    """Write wav files of some held-out pieces, and a picture; return the wav files.

    They are what went in (if it is sound), the wanted ones, the teacher's and the student's; the
    picture ``sounds.png`` has their waveforms and mel spectrograms.
    """
    from gancompress.reporting.pictures import save_png
    from gancompress.reporting.side_by_side import columns_of
    from gancompress.reporting.sound_pictures import sound_sheet

    assert task.rate is not None
    folder.mkdir(exist_ok=True)
    batch = next(iter(task.held_out(SOUNDS, SOUNDS)))
    written: list[Path] = []
    columns = columns_of(task, batch, student, teacher)
    save_png(sound_sheet(columns, task.rate), folder / SOUND_SHEET)
    for title, sound in columns:
        for i, piece in enumerate(sound):
            file = folder / f"{i}_{title.replace(' ', '-')}.wav"
            write_wav(file, piece, task.rate)
            written.append(file)
    return written


def worst_sounds(farthest: Farthest, folder: Path) -> None:
    """Write wav files of the pieces that the student makes least like its teacher."""
    assert farthest.task.rate is not None
    folder.mkdir(exist_ok=True)
    for i, example in enumerate(farthest.examples[:WORST_SOUNDS]):
        for title, sound in example.columns:
            file = folder / f"worst-{i + 1}_{title.replace(' ', '-')}.wav"
            write_wav(file, sound[0], farthest.task.rate)
