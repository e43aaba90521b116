"""What a penalty is: the price of open channels, added to the generator's loss.

They live in `gancompress.masks.penalties`. A gate that a penalty reads with
``mask.gate(watched=False)`` leaves no trace in the mask's sensitivity. One that is registered with
``weights=True`` presses on weights instead of gates: it finds those of a mask in ``mask.lent``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from gancompress.masks.mask import ChannelMask
from gancompress.plugins.kinds import PENALTIES as PENALTIES

Penalty = Callable[[Sequence[ChannelMask], Sequence[float]], Tensor]
"""(masks, relative cost of one channel of each) -> scalar."""
