"""Teacher's and student's outputs of the same inputs as two sheets that lie on each other."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from gancompress.errors import DataError
from gancompress.modules.undisturbed import evaluating
from gancompress.reporting.pictures import PAD, enlargement, grid, value_range
from gancompress.tasks.protocol import Task

WIDE = 640
"""Pixels that a sheet is wide at most, unless one picture is wider."""
ROWS = 3
COLUMNS = 10


@torch.no_grad()
def slider_pair(
    task: Task, teacher: nn.Module, student: nn.Module
) -> tuple[Image.Image, Image.Image]:
    """Return the sheet of the teacher's pictures and that of the student's, of ``task.preview``.

    Both are shown in the same range: the task's, or without data the teacher's own.

    Raises:
        DataError: the outputs are no pictures, or differ in shape.
    """
    batch = task.preview(COLUMNS)
    made: list[Tensor] = []
    for network in (teacher, student):
        home = next((p.device for p in network.parameters()), torch.device("cpu"))
        with evaluating(network):
            made.append(task.output(batch.to(home).run(network)).detach().float().cpu())
    if made[0].shape != made[1].shape:
        raise DataError(
            f"outputs differ in shape: {tuple(made[0].shape)} and {tuple(made[1].shape)}"
        )
    shown = value_range(made[0])
    if task.has_real:
        shown = task.values
    count, width = len(made[0]), made[0].shape[-1]
    columns = max(1, min(COLUMNS, count, WIDE // ((width + PAD) * enlargement(width))))
    kept = max(columns, min(columns * ROWS, count) // columns * columns)
    first, second = (grid(images[:kept], columns, shown=shown) for images in made)
    return first, second
