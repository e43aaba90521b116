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
from gancompress.metrics.sampling import Sampler, image_of, with_labels
from gancompress.modules.undisturbed import evaluating

PAD = 2  # pixels between images, before scaling
INK, PAPER = (30, 30, 30), (255, 255, 255)


Range = tuple[float, float]
UNIT: Range = (-1.0, 1.0)
"""What real images lie in, and a generator's beside them."""


def value_range(images: Tensor) -> Range:
    """Return the (black, white) in which ``images`` (n, c, h, w) are shown (ours).

    The one of [-1, 1], [0, 1] and [0, 255] that they lie in, give or take a tenth; otherwise their
    own least and greatest value.

    Raises:
        DataError: these are no images, or not finite.
    """
    check_pictures(images)
    low, high = float(images.min()), float(images.max())
    if low < -0.1:
        known = (UNIT,) if high <= 1.1 and low >= -1.1 else ()
    else:
        known = ((0.0, 1.0),) if high <= 1.1 else ((0.0, 255.0),) if 64 < high <= 280 else ()
    return known[0] if known else (low, high)


def check_pictures(images: object) -> None:
    """Refuse what no picture can show.

    Raises:
        DataError: no float batch (n, c, h, w), or not finite.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"a picture needs float images (n, c, h, w), not {found}")
    if images.ndim != 4:
        sound = "sound (--task noise task.rate=22050 writes it as such)"
        kind = {3: sound, 5: "a volume or video"}.get(images.ndim, "something else")
        raise DataError(
            f"a picture needs images (n, c, h, w); the output {tuple(images.shape)} is {kind}"
        )
    if not torch.isfinite(images).all():
        raise DataError("the generator returned NaN or infinite pixels: its weights have diverged")


def to_pixels(images: Tensor, shown: Range = UNIT) -> np.ndarray:
    """Return uint8 (n, h, w, 3) of float images (n, c, h, w), black and white at ``shown``.

    Beyond ``shown`` they are clamped. Of more than three channels the first three are shown; two
    are red and green, so that both are seen.

    Raises:
        DataError: these are no images, or not finite.
    """
    check_pictures(images)
    images = few_channels(images.detach().float().cpu())
    black, white = shown
    scaled = (images - black) * (255.0 / ((white - black) or 1.0))
    pixels = scaled.clamp(0, 255).round().to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def few_channels(images: Tensor) -> Tensor:
    """Return one or three channels of (n, c, h, w): the first three, or two as red and green."""
    if images.shape[1] == 2:
        return torch.cat([images, images.mean(1, keepdim=True)], 1)
    return images[:, : 3 if images.shape[1] >= 3 else 1]


def enlargement(side: int) -> int:
    """Return the whole factor that makes images of ``side`` pixels about 64 pixels wide, >= 1."""
    return max(1, 64 // side)


def grid(
    images: Tensor,
    columns: int,
    *,
    shown: Range = UNIT,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    caption: str = "",
) -> Image.Image:
    """Lay images (n, c, h, w) out row by row, enlarged without smoothing; ``shown`` is the range.

    Raises:
        DataError: the images cannot be shown, or their number is no multiple of ``columns``.
    """
    pixels = to_pixels(images, shown)
    if columns < 1 or len(pixels) % columns:
        raise DataError(f"{len(pixels)} images do not fill rows of {columns}")
    rows, width = len(pixels) // columns, pixels.shape[2]
    sheet = sheet_of(pixels, columns, pad=PAD)
    scale = enlargement(width)
    body = sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)
    return titled(body, rows, columns, row_titles, column_titles, caption)


def sheet_of(pixels: np.ndarray, columns: int, *, pad: int = 0) -> Image.Image:
    """Lay pixels (n, h, w, 3) out row by row, ``pad`` white pixels around each."""
    rows, (height, width) = -(-len(pixels) // columns), pixels.shape[1:3]
    size = rows * (height + pad) + pad, columns * (width + pad) + pad, 3
    sheet = np.full(size, 255, np.uint8)
    for i, picture in enumerate(pixels):
        top = pad + (i // columns) * (height + pad)
        left = pad + (i % columns) * (width + pad)
        sheet[top : top + height, left : left + width] = picture
    return Image.fromarray(sheet)


def titled(
    body: Image.Image,
    rows: int,
    columns: int,
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    caption: str,
) -> Image.Image:
    """Return ``body`` with a title above each column, before each row, and a caption below."""
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
def render(
    generator: nn.Module, inputs: Sequence[Tensor], *, batch: int = 50, sampler: object = None
) -> Tensor:
    """Return the images (n, c, h, w) of ``inputs`` in eval mode, float32 on the CPU.

    ``sampler`` says which of several outputs is the image.

    Raises:
        DataError: what comes back are no images, or they are not finite.
    """
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    images: list[Tensor] = []
    with evaluating(generator):
        for at in range(0, len(inputs[0]), batch):
            output = generator(*(part[at : at + batch].to(device) for part in inputs))
            out = image_of(sampler, output)
            check_pictures(out)
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
    images = render(generator, inputs, sampler=sampler)
    return grid(images, columns, shown=value_range(images), column_titles=class_names)


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

    Both are shown in the range of the teacher's. ``difference`` adds a row |teacher - student|
    below each pair: black is equal, white is the whole range.

    Raises:
        DataError: the two make images of different shapes, or images that cannot be shown.
    """
    inputs = inputs_by_class(sampler, n_classes, columns=columns, rows=rows, seed=seed)
    pair = [render(network, inputs, sampler=sampler) for network in (teacher, student)]
    if pair[0].shape != pair[1].shape:
        raise DataError(
            f"teacher and student make images of different shapes: "
            f"{tuple(pair[0].shape[1:])} and {tuple(pair[1].shape[1:])}"
        )
    shown = value_range(pair[0])
    titles = ["teacher", "student"]
    if difference:
        pair.append((pair[0] - pair[1]).abs() + shown[0])
        titles.append("difference")
    # (kind, row, column) to row by row: all kinds of one row of latents below each other.
    stacked = torch.stack([p.unflatten(0, (rows, columns)) for p in pair], 1)
    return grid(
        stacked.flatten(0, 2),
        columns,
        shown=shown,
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
