"""Axes counted from the end mean the same as those counted from the start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc


class Joined(nn.Module):
    """Two convolutions of equal width, joined along their channels."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(12, 2, 1)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(torch.cat([self.a(x), self.b(x)], self.axis)))


@pytest.mark.parametrize("axis", [1, -3])
def test_what_is_joined_stays_apart(axis: int) -> None:
    graph = gc.trace(Joined(axis).eval(), torch.randn(2, 3, 4, 4), trial=False)
    assert graph.widths == {"a": 6, "b": 6}
    reads = graph["b"].slots[("c.weight", 1)].ravel().tolist()
    assert reads == list(range(6, 12))
