"""How a batch is shared: over ranks, and over the parts that gradients are accumulated from.

Part p of k holds the samples p, p + k, p + 2k ... of the batch. So the parts of the ranks' parts
are parts of the batch too, and its first samples (`distill_share`) are the first ones of all parts:
one rank, two ranks, and one that accumulates two parts see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gancompress.errors import ConfigError
from gancompress.tasks.protocol import Batch, Draw, Shown


def check_shares(batch: int, ranks: int, accumulate: int) -> None:
    """Refuse a batch that cannot be shared evenly.

    Raises:
        ConfigError: what would do is in the message.
    """
    parts = ranks * accumulate
    if batch % parts == 0:
        return
    near = max(1, round(batch / parts)) * parts
    who = " and ".join(
        text
        for n, text in ((ranks, f"{ranks} ranks"), (accumulate, f"accumulate={accumulate}"))
        if n > 1
    )
    raise ConfigError(f"batch={batch} cannot be shared by {who}: for example batch={near}")


def shared_batch(batch: Batch, draw: Draw) -> Batch:
    """Return the rows of ``batch`` that are ``draw``'s; a task may have left out the others."""
    size = len(batch)
    if draw.parts == 1 or size == draw.n // draw.parts:
        return batch
    return batch.part(draw.part, draw.parts)


def shared_shown(shown: Shown, draw: Draw) -> Shown:
    """Return the rows of ``shown`` that are ``draw``'s, likewise."""
    if draw.parts == 1 or len(shown.output) == draw.n // draw.parts:
        return shown
    return part_of_shown(shown, draw.part, draw.parts)


def part_of_shown(shown: Shown, part: int, parts: int) -> Shown:
    """Return part number ``part`` of ``parts``."""
    if parts == 1:
        return shown
    rows = slice(part, None, parts)
    return Shown(
        shown.output[rows],
        None if shown.labels is None else shown.labels[rows],
        None if shown.condition is None else shown.condition[rows],
    )


def twin(rng: torch.Generator) -> torch.Generator:
    """Return a generator in the state of ``rng``."""
    return torch.Generator().set_state(rng.get_state())


class WholeDraws(TorchFunctionMode):
    """Draws random numbers for the whole batch and keeps a part's rows (ours).

    While it is entered, ``torch.rand``, ``randn`` and ``randint`` with a generator of their own,
    whose first size is that of the part, draw for all parts. So each sample gets the draws that it
    would get alone, in augmentations and regularisers that know nothing of parts; other draws are
    the same in all parts.

    Args:
        n: samples in the part.
        part: its number.
        parts: how many there are.
    """

    def __init__(self, n: int, part: int, parts: int) -> None:
        super().__init__()
        self._n, self._part, self._parts = n, part, parts

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``; a draw for the part becomes one for the batch."""
        kwargs = dict(kwargs or {})
        if func not in (torch.rand, torch.randn, torch.randint) or "generator" not in kwargs:
            return func(*args, **kwargs)
        at = next((i for i, a in enumerate(args) if isinstance(a, tuple | list | torch.Size)), None)
        size = tuple(args) if at is None else tuple(args[at])
        if "size" in kwargs or not size or size[0] != self._n:
            return func(*args, **kwargs)
        whole = (self._n * self._parts, *size[1:])
        args = whole if at is None else (*args[:at], whole, *args[at + 1 :])
        return func(*args, **kwargs)[self._part :: self._parts].contiguous()


@dataclass(frozen=True)
class Luck:
    """The random draws of a part of a batch (ours).

    Attributes:
        rng: CPU generator, in the same state for all parts of a batch.
        n: samples in the part.
        part: its number.
        parts: how many there are.
    """

    rng: torch.Generator
    n: int
    part: int = 0
    parts: int = 1

    def whole(self) -> AbstractContextManager[Any]:
        """Return the context in which draws are those of the whole batch, see `WholeDraws`."""
        return WholeDraws(self.n, self.part, self.parts) if self.parts > 1 else nullcontext()

    def from_now(self, rng: torch.Generator) -> Luck:
        """Return this with the draws that follow in ``rng``; other parts draw the same."""
        return replace(self, rng=twin(rng) if self.parts > 1 else rng)


def luck_of(draw: Draw) -> Luck:
    """Return the random draws of this rank's share of a batch."""
    return Luck(draw.rng, draw.n // draw.parts, draw.part, draw.parts)
