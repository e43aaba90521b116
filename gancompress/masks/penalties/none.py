"""No penalty."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gancompress.masks.mask import ChannelMask
from gancompress.masks.penalty import PENALTIES


@PENALTIES.register("none")
def no_penalty(masks: Sequence[ChannelMask], price: Sequence[float]) -> Tensor:
    """No pressure: importance and schedule alone decide."""
    return masks[0].scores.new_zeros(())
