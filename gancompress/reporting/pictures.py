"""Grids of samples: fixed seed, class per column, teacher above student, equal bytes each time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from gancompress.errors import DataError, StorageError
from gancompress.metrics.sampling import Sampler, check_images, with_labels
from gancompress.modules.undisturbed import evaluating

PAD = 2  # pixels between images, before scaling
INK, PAPER = (30, 30, 30), (255, 255, 255)


def to_pixels(images: Tensor) -> np.ndarray:
    """Return uint8 (n, h, w, 3) of float images (n, 1 or 3, h, w) in [-1, 1].

    Raises:
        DataError: another shape, non-finite values or another range.
    """
    check_images(images)
    if images.shape[1] not in (1, 3):
        raise DataError(f"a picture needs 1 or 3 channels, got images {tuple(images.shape)}")
    scaled = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def enlargement(side: int) -> int:
    """Return the whole factor that makes images of ``side`` pixels about 64 pixels wide, >= 1."""
    return max(1, 64 // side)


def grid(
    images: Tensor,
    columns: int,
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    caption: str = "",
) -> Image.Image:
    """Lay images (n, c, h, w) in [-1, 1] out row by row, enlarged without smoothing.

    Raises:
        DataError: the images cannot be shown, or their number is no multiple of ``columns``.
    """
    pixels = to_pixels(images)
    if columns < 1 or len(pixels) % columns:
        raise DataError(f"{len(pixels)} images do not fill rows of {columns}")
    rows, (height, width) = len(pixels) // columns, pixels.shape[1:3]
    sheet = np.full((rows * (height + PAD) + PAD, columns * (width + PAD) + PAD, 3), 255, np.uint8)
    for i, picture in enumerate(pixels):
        top = PAD + (i // columns) * (height + PAD)
        left = PAD + (i % columns) * (width + PAD)
        sheet[top : top + height, left : left + width] = picture
    scale = enlargement(width)
    body = Image.fromarray(sheet).resize(
        (sheet.shape[1] * scale, sheet.shape[0] * scale), Image.Resampling.NEAREST
    )
    return _titled(body, rows, columns, row_titles, column_titles, caption)


def _titled(
    body: Image.Image,
    rows: int,
    columns: int,
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    caption: str,
) -> Image.Image:
    if not (row_titles or column_titles or caption):
        return body
    font = ImageFont.load_default(size=12)
    margin = 10 + int(max((font.getlength(title) for title in row_titles), default=0))
    header = (16 if column_titles else 0) + (18 if caption else 0)
    width = max(margin + body.width, int(font.getlength(caption)) + 12)
    page = Image.new("RGB", (width, header + body.height), PAPER)
    page.paste(body, (margin, header))
    pen = ImageDraw.Draw(page)
    if caption:
        pen.text((6, 2), caption, INK, font)
    for i, title in enumerate(column_titles[:columns]):
        centre = margin + (i + 0.5) * body.width / columns
        pen.text((centre, header - 3), title, INK, font, anchor="ms")
    for i, title in enumerate(row_titles[:rows]):
        middle = header + (i + 0.5) * body.height / rows
        pen.text((margin - 4, middle), title, INK, font, anchor="rm")
    return page


def inputs_by_class(
    sampler: Sampler, n_classes: int | None, *, columns: int, rows: int, seed: int
) -> tuple[Tensor, ...]:
    """Draw ``rows * columns`` inputs; column ``i`` shows class ``i`` when there are classes.

    Raises:
        DataError: ``n_classes`` is given but the sampler draws no labels.
    """
    inputs = sampler(rows * columns, torch.Generator().manual_seed(seed))
    if n_classes is None:
        return inputs
    return with_labels(sampler, inputs, (torch.arange(columns) % n_classes).repeat(rows))


@torch.no_grad()
def render(generator: nn.Module, inputs: Sequence[Tensor], *, batch: int = 50) -> Tensor:
    """Return the images (n, c, h, w) of ``inputs`` in eval mode, float32 on the CPU.

    Raises:
        DataError: the images are no float batch in [-1, 1].
    """
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    images = []
    with evaluating(generator):
        for at in range(0, len(inputs[0]), batch):
            out = generator(*(part[at : at + batch].to(device) for part in inputs))
            check_images(out)
            images.append(out.float().cpu())
    return torch.cat(images)


def sample_grid(
    generator: nn.Module,
    sampler: Sampler,
    *,
    n_classes: int | None,
    rows: int = 8,
    columns: int = 10,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> Image.Image:
    """Return a grid of samples with a class per column, the same for the same ``seed``.

    Raises:
        DataError: the images cannot be shown.
    """
    inputs = inputs_by_class(sampler, n_classes, columns=columns, rows=rows, seed=seed)
    return grid(render(generator, inputs), columns, column_titles=class_names)


def before_after_grid(
    teacher: nn.Module,
    student: nn.Module,
    sampler: Sampler,
    *,
    n_classes: int | None,
    rows: int = 3,
    columns: int = 10,
    seed: int = 0,
    difference: bool = False,
    class_names: Sequence[str] = (),
    caption: str = "",
) -> Image.Image:
    """Return rows of teacher images, each above the student's of the same latents and classes.

    ``difference`` adds a row |teacher - student| below each pair: black is equal, white is 2.

    Raises:
        DataError: the two make images of different shapes, or images that cannot be shown.
    """
    inputs = inputs_by_class(sampler, n_classes, columns=columns, rows=rows, seed=seed)
    pair = [render(teacher, inputs), render(student, inputs)]
    if pair[0].shape != pair[1].shape:
        raise DataError(
            f"teacher and student make images of different shapes: "
            f"{tuple(pair[0].shape[1:])} and {tuple(pair[1].shape[1:])}"
        )
    titles = ["teacher", "student"]
    if difference:
        pair.append((pair[0] - pair[1]).abs() - 1)
        titles.append("difference")
    # (kind, row, column) to row by row: all kinds of one row of latents below each other.
    stacked = torch.stack([p.unflatten(0, (rows, columns)) for p in pair], 1)
    return grid(
        stacked.flatten(0, 2),
        columns,
        row_titles=titles * rows,
        column_titles=class_names,
        caption=caption,
    )


def png(image: Image.Image) -> bytes:
    """Return ``image`` as PNG without time stamp or metadata: equal pixels give equal bytes."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(out, "PNG", compress_level=9)
    return out.getvalue()


def save_png(image: Image.Image, file: Path) -> Path:
    """Write ``png(image)`` to ``file`` through a temporary name and return ``file``.

    Raises:
        StorageError: the folder cannot be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(png(image))
        partial.replace(file)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}") from error
    return file
