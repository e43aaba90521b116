"""What the choice of channels reads of the masks, fetched along with what a step asks anyway."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gancompress.masks.mask import ChannelMask, version_of

Fetched = Mapping[str, tuple[Tensor, Tensor]]
"""Scores and sensitivity by name of the mask, on the CPU."""


class Parcel:
    """Scores and sensitivities as they are before the update of a step, on one way to the host.

    A step waits for its device to learn whether it is finite; the parcel travels with that answer,
    so that the choice of the channels that die after the update costs no wait of its own (ours). It
    reads what the masks held one step ago: of figures that move by a learning rate, or by a
    running mean.

    Attributes:
        packed: all of them in one tensor, on the device of the masks.
    """

    def __init__(self, masks: Mapping[str, ChannelMask]) -> None:
        both = [t.detach() for m in masks.values() for t in _read_of(m)]
        self.packed = torch.cat([t.to(both[0].dtype) for t in both])
        self._lengths = [len(t) for t in both]
        self._parts: dict[str, tuple[Tensor, Tensor]] = {}
        self._written: dict[str, tuple[int, ...]] = {}

    def arrived(self, host: Tensor, masks: Mapping[str, ChannelMask]) -> None:
        """Take ``host``, what ``packed`` is on the CPU; ``masks`` are now as the update left them.

        What is written to them from now on makes the parcel old.
        """
        parts = iter(host.split(self._lengths))
        self._parts = {n: (next(parts), next(parts)) for n in masks}
        self._written = _written(masks)

    def of(self, masks: Mapping[str, ChannelMask]) -> Fetched | None:
        """Return what arrived, or ``None`` if the parcel is old."""
        return self._parts if self._parts and self._written == _written(masks) else None


def _read_of(mask: ChannelMask) -> tuple[Tensor, Tensor]:
    return mask.scores, mask.sensitivity


def _written(masks: Mapping[str, ChannelMask]) -> dict[str, tuple[int, ...]]:
    """Return what changes when a mask is replaced, or somebody writes to it."""
    return {n: (id(m), *map(version_of, _read_of(m))) for n, m in masks.items()}
