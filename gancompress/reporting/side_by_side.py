"""Input, wanted output, teacher's and student's, side by side: what a task is about, to look at."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from gancompress.reporting.pictures import Range, check_pictures, few_channels, grid
from gancompress.tasks.noise import Noise
from gancompress.tasks.protocol import Batch, Task

Column = tuple[str, Tensor]
"""A title, and what stands below it (n, c, *space), on the CPU."""

MOST_INPUTS = 3
BATCH = 8


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
    """Return the columns of outputs that are there already; ``answer`` is the teacher's.

    Of the inputs those are shown that are of the outputs' kind: pictures, or sound as long.
    """
    given = [x for x in (*batch.inputs, *batch.kwargs.values()) if _looks_like(x, made)]
    given = given[:MOST_INPUTS]
    titles = ["input"] if len(given) == 1 else [f"input {i + 1}" for i in range(len(given))]
    found: list[Column] = list(zip(titles, given, strict=True))
    if batch.wanted is not None:
        found.append(("wanted", batch.wanted))
    if answer is not None:
        found.append(("teacher", answer))
    found.append(("student", made))
    return [(title, x.detach().float().cpu()) for title, x in found]


@torch.no_grad()
def held_out_columns(
    task: Task, student: nn.Module, teacher: nn.Module | None, n: int
) -> list[Column]:
    """Return the columns of at most ``n`` held-out samples."""
    parts = [columns_of(task, batch, student, teacher) for batch in task.held_out(n, BATCH)]
    return [
        (title, torch.cat([part[i][1] for part in parts])) for i, (title, _) in enumerate(parts[0])
    ]


def shows_inputs(task: Task) -> bool:
    """Return whether outputs are shown beside their inputs: those of noise alone tell nothing."""
    return not isinstance(task, Noise) or bool(task.sampler.files)


def beside(
    columns: Sequence[Column], shown: Range, row_titles: Sequence[str] = (), *, wide: int = 0
) -> Image.Image:
    """Return one picture of ``columns``: a sample a row, all as large as the last column.

    ``wide``: as many samples in a row as make about so many pictures.

    Raises:
        DataError: the outputs are no pictures.
    """
    check_pictures(columns[-1][1])
    fitting = [(title, _visible(x, shown)) for title, x in columns if x.ndim == 4]
    channels = max(x.shape[1] for _, x in fitting)
    size = tuple(fitting[-1][1].shape[2:])
    alike = [_enlarged(x, size).expand(-1, channels, -1, -1) for _, x in fitting]
    count = len(alike[0])
    blocks = max(1, min(wide // len(alike), count))
    stack = torch.stack(alike, 1)[: count // blocks * blocks].flatten(0, 1)
    titles = [title for title, _ in fitting] * blocks
    return grid(stack, len(titles), shown=shown, column_titles=titles, row_titles=row_titles)


def _looks_like(x: object, made: Tensor) -> bool:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != made.ndim:
        return False
    if made.ndim == 3:
        return x.shape[1:] == made.shape[1:]
    return made.ndim == 4 and min(x.shape[2:]) > 1


def _visible(x: Tensor, shown: Range) -> Tensor:
    """Return one or three channels of pictures (n, c, h, w); label maps in a colour a class."""
    if x.shape[1] > 1 and _is_label_map(x):
        low, high = shown
        colours = torch.tensor(_palette(x.shape[1])) * (high - low) + low
        return colours[x.argmax(1)].permute(0, 3, 1, 2)
    return few_channels(x)


def _is_label_map(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all() and (x.sum(1) == 1).all())


def _palette(classes: int) -> list[tuple[float, float, float]]:
    """Return colours in [0, 1] that differ: hues a golden angle apart, two kinds of lightness."""
    return [
        colorsys.hsv_to_rgb((0.61 * i) % 1, 0.75, 0.95 if i % 2 else 0.6) for i in range(classes)
    ]


def _enlarged(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return pictures as large as the outputs."""
    same = tuple(x.shape[2:]) == size
    return x if same else nn.functional.interpolate(x, size=size, mode="nearest")
