"""Input, wanted output, teacher's and student's, side by side: what a task is about, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from gancompress.reporting.pictures import Range, grid
from gancompress.tasks.protocol import Batch, Task

Column = tuple[str, Tensor]
"""A title, and what stands below it (n, c, *space), on the CPU."""


@torch.no_grad()
def columns_of(
    task: Task, batch: Batch, student: nn.Module, teacher: nn.Module | None
) -> list[Column]:
    """Return pictures that went in, what was wanted, and what both networks make of ``batch``."""
    home = next((p.device for p in student.parameters()), torch.device("cpu"))
    here = batch.to(home)
    made = task.output(here.run(student))
    answer = None if teacher is None else task.output(here.run(teacher))
    return named_columns(batch, made, answer)


def named_columns(batch: Batch, made: Tensor, answer: Tensor | None) -> list[Column]:
    """Return the columns of outputs that are there already; ``answer`` is the teacher's."""
    found: list[Column] = []
    first = batch.inputs[0] if batch.inputs else None
    if isinstance(first, Tensor) and first.ndim == 4 and min(first.shape[2:]) > 1:
        found.append(("input", first))
    if batch.wanted is not None:
        found.append(("wanted", batch.wanted))
    if answer is not None:
        found.append(("teacher", answer))
    found.append(("student", made))
    return [(title, x.detach().float().cpu()) for title, x in found]


def beside(columns: Sequence[Column], shown: Range, row_titles: Sequence[str] = ()) -> Image.Image:
    """Return one picture of ``columns``: a sample a row, all as large as the last column.

    Raises:
        DataError: the outputs are no pictures.
    """
    wide = columns[-1][1].shape
    fitting = [(title, _as_wide(x, wide)) for title, x in columns if x.ndim == len(wide)]
    stack = torch.stack([x for _, x in fitting], 1).flatten(0, 1)
    titles = [title for title, _ in fitting]
    return grid(stack, len(fitting), shown=shown, column_titles=titles, row_titles=row_titles)


def _as_wide(x: Tensor, shape: torch.Size) -> Tensor:
    """Return pictures enlarged to the outputs' size, grey ones in three channels beside colour."""
    if len(shape) != 4:
        return x
    if x.shape[2:] != shape[2:]:
        x = nn.functional.interpolate(x, size=tuple(shape[2:]), mode="nearest")
    channels = 3 if shape[1] >= 3 else 1
    x = x[:, :channels]
    return x if x.shape[1] == channels else x[:, :1].expand(-1, channels, -1, -1)
