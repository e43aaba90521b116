"""Sample grids written while training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def save_grid(images: Tensor, file: Path, *, columns: int) -> None:
    """Write images (n, 1 or 3, h, w) in [-1, 1] as a PNG with ``columns`` images a row."""
    from PIL import Image

    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.zeros(rows * columns, c, h, w, dtype=torch.uint8)
    sheet[:n] = images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    sheet = sheet.view(rows, columns, c, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, -1, c)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.squeeze(-1).numpy()).save(file)
