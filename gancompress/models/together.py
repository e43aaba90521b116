"""Several discriminators that judge the same output, as one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Together(nn.Module):
    """Calls each of its discriminators on the same output and returns all their heads (ours).

    HiFi-GAN's judges by period and by scale are two networks: a run trains, saves and resumes one.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, output: Tensor) -> list[Any]:
        """Return what the parts return, one list: lists of heads are joined."""
        heads: list[Any] = []
        for part in self.parts:
            found = part(output)
            heads += found if isinstance(found, list) else [found]
        return heads


def together(parts: Sequence[nn.Module]) -> nn.Module:
    """Return the only one of ``parts`` as it is, or several as one module."""
    return parts[0] if len(parts) == 1 else Together(parts)
