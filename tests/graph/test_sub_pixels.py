"""Sub-pixels are places in the picture, whatever else the channels before them are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gancompress as gc


class Upscaling(nn.Module):
    """Two channels, or one, of four sub-pixels each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4 * channels, 1), nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.pixel_shuffle(self.a(x), 2))


def test_they_stay() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert gc.trace(Upscaling(1).eval(), x, trial=False).widths == {}
    graph = gc.trace(Upscaling(5).eval(), x, trial=False)
    assert list(graph.widths.values()) == [5]
    assert graph.groups[0].slots[("a.weight", 0)].shape == (5, 4)
