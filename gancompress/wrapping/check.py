"""Is a generator after a live cut the function that it was before? In float64, on fresh inputs."""

from __future__ import annotations

from typing import Any

from torch import nn

from gancompress.errors import TargetError
from gancompress.surgery.verify import TOLERANCE, distance, redraw, run


class CutCheck:
    """Remembers what a wrapped generator puts out, to compare it with itself after a cut (ours)."""

    def __init__(self, generator: nn.Module, example: Any, seed: int) -> None:
        self._generator, self._inputs = generator, redraw(example, seed)
        self._before = run(generator, self._inputs)

    def error(self) -> float:
        """Return max |before - after| / std(before).

        Raises:
            TargetError: it is more than what `verify` lets pass.
        """
        error = distance(self._before, run(self._generator, self._inputs))
        if not error <= TOLERANCE:
            raise TargetError(
                f"the live cut is refused: the output moves by {error:.1e} of its standard "
                "deviation (float64). Exclude layers with exclude=(...) to find the one at fault"
            )
        return error
