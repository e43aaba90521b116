"""Sample grids written while training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gancompress.data.inputs import InputSampler
from gancompress.modules.undisturbed import evaluating
from gancompress.training.order import stream


@torch.no_grad()
def sample_images(
    generator: nn.Module,
    sampler: InputSampler,
    seed: int,
    device: torch.device,
    *,
    rows: int = 10,
    columns: int = 10,
) -> Tensor:
    """Return images (rows * columns, c, h, w) of fixed latents in eval mode, a class a column.

    With more classes than columns the first ones are shown.
    """
    n = rows * columns
    inputs = sampler(n, stream(seed, "samples"))
    if sampler.n_classes is not None and sampler.labels(inputs) is not None:
        shown = min(columns, sampler.n_classes)
        inputs = sampler.relabelled(inputs, torch.arange(n) % columns % shown)
    with evaluating(generator):
        return sampler.image(generator(*(part.to(device) for part in inputs)))


def save_grid(
    images: Tensor, file: Path, *, columns: int, shown: tuple[float, float] = (-1.0, 1.0)
) -> None:
    """Write images (n, c, h, w) as a PNG with ``columns`` images a row; ``shown`` is black, white.

    What is no picture (sound, volumes) is not written. The rule of what is shown, and in which
    range, is that of the closing pictures: `gancompress.reporting.pictures`.
    """
    if images.ndim != 4:
        return
    from gancompress.reporting.pictures import save_png, sheet_of, to_pixels

    save_png(sheet_of(to_pixels(images, shown), columns), file)


def shown_range(
    generator: nn.Module, sampler: InputSampler, seed: int, device: torch.device, *, data: bool
) -> tuple[float, float]:
    """Return black and white of the sample grids: [-1, 1] beside data, else what is found."""
    images = torch.empty(0) if data else sample_images(generator, sampler, seed, device, rows=2)
    if images.ndim != 4:
        return (-1.0, 1.0)
    from gancompress.reporting.pictures import value_range

    return value_range(images)
