"""What a loss is: (output, wanted) to a scalar, where a task knows what it wants."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gancompress.errors import DataError
from gancompress.plugins.kinds import LOSSES as LOSSES

Loss = Callable[[Tensor, Tensor], Tensor]
"""(output, wanted), of one shape, to a float32 scalar to minimise."""


def same_shape(output: Tensor, wanted: Tensor, who: str) -> tuple[Tensor, Tensor]:
    """Return both in float32.

    Raises:
        DataError: their shapes differ.
    """
    if output.shape != wanted.shape:
        raise DataError(
            f"loss {who}: the output is {tuple(output.shape)}, the wanted one "
            f"{tuple(wanted.shape)}. Give data of the generator's size"
        )
    return output.float(), wanted.float()
