"""Batches of a run prepared ahead by other processes; what comes at a step stays the same."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from gancompress.data.arrays import ArrayDataset
from gancompress.data.order import stream
from gancompress.data.workers import Ahead
from gancompress.errors import ConfigError
from gancompress.modules.ranks import rank, world
from gancompress.recipes.schema import Recipe
from gancompress.tasks.protocol import Batch, Draw, Shown, Task
from gancompress.training.shares import luck_of

MOST = 4
"""Workers that `workers_for` takes at most: more would only wait for the device."""

ROOM = 2**30
"""Bytes of shared memory below which no worker is taken that was not asked for."""


@dataclass(frozen=True)
class Prepared:
    """What a worker made of one draw, and where its random numbers stood afterwards (ours)."""

    batch: Batch
    real: Shown | None
    after_batch: Tensor
    after_real: Tensor

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Prepared:
        """Return this as it is: the step moves what it needs."""
        return self


class AheadBatches:
    """Batches and real samples of a task, the next ones already in the making (ours).

    ``batch`` and ``real`` return what those of the task return, to the bit and with ``draw.rng`` in
    the same state, since workers get the number of a step and nothing random.

    Args:
        task: asked in the workers; it must not compute on a device.
        recipe: for batch size and seed, and whether real samples are looked at.
        workers: processes, at least 1.
        prefetch: batches that each holds ready.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(self, task: Task, recipe: Recipe, *, workers: int, prefetch: int = 2) -> None:
        judged = recipe.adversarial.weight > 0 and recipe.discriminator.policy != "frozen"
        real = task.has_real and judged and recipe.discriminator.real != "teacher"
        self._task, self._real, self._rollbacks = task, real, 0
        self._rows = _Rows(task, recipe.batch, recipe.seed, real)
        self._ahead = Ahead(cast(Any, self._rows), self._key, workers=workers, prefetch=prefetch)
        self._held: tuple[int, Prepared] | None = None

    def batch(self, draw: Draw) -> Batch:
        """Return the inputs of a step.

        Raises:
            DataError: a file is damaged; it is named.
        """
        if draw.rollbacks != self._rollbacks:
            self._rollbacks = draw.rollbacks
            self._ahead.close()
        found = cast(Any, self._ahead.batch(draw.number))[0]
        self._held = draw.number, found
        draw.rng.set_state(found.after_batch)
        return found.batch

    def real(self, draw: Draw) -> Shown:
        """Return the real samples of the draw that `batch` was asked for last."""
        if self._held is None or self._held[0] != draw.number or self._held[1].real is None:
            return self._task.real(draw)
        draw.rng.set_state(self._held[1].after_real)
        return self._held[1].real

    def close(self) -> None:
        """End the workers."""
        self._ahead.close()

    def _key(self, number: int) -> Tensor:
        return torch.tensor([number, self._rollbacks])


class _Rows:
    """One draw a row, made in a worker; ``bad`` counts files that are left out, see `Ahead`."""

    n_classes = None

    def __init__(self, task: Task, n: int, seed: int, real: bool) -> None:
        self.task, self.n, self.seed, self.real = task, n, seed, real
        self.share = rank(), world()
        self.bad: dict[int, str] = getattr(_data_of(task), "bad", {})

    def batch(self, indices: Tensor) -> tuple[Prepared, None]:
        number, rollbacks = indices.tolist()
        rng = stream(self.seed, "step", number, rollbacks)
        draw = Draw(self.n, number, rng, *self.share, rollbacks)
        with luck_of(draw).whole():
            batch = self.task.batch(draw)
            after = rng.get_state()
            real = self.task.real(draw) if self.real else None
        return Prepared(batch, real, after, rng.get_state()), None


def _data_of(task: Task) -> Any:
    return getattr(task, "dataset", None) or getattr(task, "data", None)


def workers_for(task: Task, device: torch.device, asked: int | None) -> int:
    """Return how many processes prepare batches: as ``asked``, else what helps.

    Beside a GPU up to four where the task reads data that is not in memory, and shared memory has
    room for what they hand over; beside a CPU, whose cores have work enough, none.

    Raises:
        ConfigError: fewer than 0.
    """
    if asked is not None:
        if asked < 0:
            raise ConfigError(f"workers is {asked}; it must be at least 0")
        return asked
    data, sampler = _data_of(task), getattr(task, "sampler", None)
    files = bool(getattr(sampler, "files", ()))
    reads = files or not (data is None or isinstance(data, ArrayDataset))
    if device.type != "cuda" or not reads or not _has_room():
        return 0
    return max(0, min(MOST, (os.cpu_count() or 1) - 1))


def _has_room() -> bool:
    """Whether shared memory, which containers often have little of, takes some batches."""
    try:
        return shutil.disk_usage("/dev/shm").free > ROOM
    except OSError:  # no such thing here: memory is shared another way
        return True
