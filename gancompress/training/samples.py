"""Sample grids written while training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gancompress.modules.undisturbed import evaluating
from gancompress.tasks.protocol import Task

COLUMNS = 10


@torch.no_grad()
def sample_images(generator: nn.Module, task: Task, device: torch.device) -> Tensor:
    """Return what ``generator`` makes, in eval mode, of the task's preview: (n, c, h, w)."""
    with evaluating(generator):
        return task.output(task.preview(COLUMNS).to(device).run(generator))


def save_grid(images: Tensor, file: Path, *, columns: int = COLUMNS) -> None:
    """Write images (n, 1 or 3, h, w) in [-1, 1] as a PNG with ``columns`` images a row.

    What is no picture (sound, volumes, other channels) is not written.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        return
    from PIL import Image

    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.zeros(rows * columns, c, h, w, dtype=torch.uint8)
    sheet[:n] = images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    sheet = sheet.view(rows, columns, c, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, -1, c)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.squeeze(-1).numpy()).save(file)
