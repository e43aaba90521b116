"""Several importances together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field
from torch import Tensor

from gancompress.errors import ConfigError
from gancompress.graph.groups import Group
from gancompress.masks.importance import IMPORTANCES, ranked
from gancompress.masks.mask import ChannelMask


def _readable(parts: Sequence[Any]) -> Sequence[Any]:
    if not parts:
        raise ValueError("name one importance at least")
    for part in parts:
        try:
            IMPORTANCES.bind(part)
        except ConfigError as error:
            raise ValueError(str(error)) from error
    return parts


@IMPORTANCES.register("blend")
class Blend:
    """Weighted sum of the ranks that several importances give within a group (ours).

    ``parts`` are importances, each a name, a name with options, or a function; ``weights`` one
    factor each, all 1 if left out.
    """

    def __init__(
        self,
        *,
        parts: Annotated[list[Any], AfterValidator(_readable)],
        weights: list[Annotated[float, Field(gt=0.0)]] | None = None,
    ) -> None:
        self.weights = [1.0] * len(parts) if weights is None else weights
        if len(self.weights) != len(parts):
            raise ConfigError(f"blend: {len(parts)} parts and {len(self.weights)} weights")
        self.parts = [IMPORTANCES.bind(part) for part in parts]

    def __call__(
        self, group: Group, mask: ChannelMask, tensors: Mapping[str, Tensor], seed: int
    ) -> np.ndarray:
        """Return the importance of each channel."""
        total = np.zeros(group.size)
        for part, weight in zip(self.parts, self.weights, strict=True):
            total += weight * ranked(part(group, mask, tensors, seed), mask)
        return total / sum(self.weights)
