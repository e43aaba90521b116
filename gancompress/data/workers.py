"""Batches prepared ahead by other processes; which batch comes at a step does not change by it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gancompress.data.arrays import Dataset, RawDataset
from gancompress.errors import ConfigError, GancompressError

Batch = tuple[Tensor, Tensor | None]
MAX_WORKERS = 256


class Ahead:
    """Batches of steps in order, the next ones already in the making (ours).

    ``ahead.batch(step)`` equals ``dataset.batch(picks(step))``, to the bit and for any number of
    workers: workers get indices, not a random state. Asking for another step than the next one
    (after a resume or a rollback) starts over there.

    Workers hand over the numbers of the files (uint8), a quarter of floats; they are scaled here,
    on ``device`` when there is one, to which they go from pinned memory.

    Args:
        dataset: where batches come from.
        picks: the indices (n,) of a step, a function of the step alone.
        workers: processes; 0 reads here, when asked.
        prefetch: batches that each worker holds ready.
        device: where batches go; ``None`` leaves them on the CPU.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        picks: Callable[[int], Tensor],
        *,
        workers: int = 0,
        prefetch: int = 2,
        device: torch.device | str | None = None,
    ) -> None:
        for name, value, least in (("workers", workers, 0), ("prefetch", prefetch, 1)):
            if not isinstance(value, int) or not least <= value <= MAX_WORKERS:
                raise ConfigError(f"{name} must lie in {least}..{MAX_WORKERS}; found {value!r}")
        self.dataset, self.picks = dataset, picks
        self.workers, self.prefetch = workers, prefetch
        self.device = torch.device("cpu" if device is None else device)
        self._next = 0
        self._stream: Iterator[Any] | None = None

    def batch(self, step: int) -> Batch:
        """Return images (n, c, h, w) in [-1, 1] and labels of ``step``, on the device.

        Raises:
            DataError: a file is damaged; it is named.
        """
        if self.workers == 0:
            return self._finished(_fetched(self.dataset, self.picks(step)))
        if self._stream is None or step != self._next:
            self.close()
            self._stream = self._started(step)
        self._next = step + 1
        found, bad = next(self._stream)
        if isinstance(found, GancompressError):
            self.close()
            raise found
        if bad:
            cast(Any, self.dataset).bad.update(bad)
        return self._finished(found)

    def close(self) -> None:
        """End the workers; the next batch starts them again."""
        stream, self._stream = self._stream, None
        shutdown = getattr(stream, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self, step: int) -> Iterator[Any]:
        return iter(
            DataLoader(
                _Fetch(self.dataset),
                sampler=_Steps(self.picks, step),  # type: ignore[arg-type]
                batch_size=None,
                num_workers=self.workers,
                prefetch_factor=self.prefetch,
                pin_memory=self.device.type == "cuda",
                # Indices say everything: a worker's own random state is never used.
                generator=torch.Generator().manual_seed(0),
                # Tasks hold functions, which only a fork takes along; newer Pythons start afresh.
                multiprocessing_context="fork" if sys.platform == "linux" else None,
            )
        )

    def _finished(self, found: Batch) -> Batch:
        images, labels = found
        fast = self.device.type == "cuda"
        images = images.to(self.device, non_blocking=fast)
        labels = None if labels is None else labels.to(self.device, non_blocking=fast)
        if hasattr(self.dataset, "raw"):
            images = cast(RawDataset, self.dataset).scaled(images)
        return images, labels


class _Steps:
    """The indices of every step from ``start`` on, without end."""

    def __init__(self, picks: Callable[[int], Tensor], start: int) -> None:
        self.picks, self.start = picks, start

    def __iter__(self) -> Iterator[Tensor]:
        step = self.start
        while True:
            yield self.picks(step)
            step += 1


class _Fetch(TorchDataset[Any]):
    """Reads a batch in a worker; what is wrong comes back as a value, to be raised as it is."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, indices: Tensor) -> tuple[Batch | GancompressError, dict[int, str]]:
        known = dict(getattr(self.dataset, "bad", {}))
        try:
            found = _fetched(self.dataset, indices)
        except GancompressError as error:
            return type(error)(str(error)), {}
        bad = getattr(self.dataset, "bad", {})
        return found, {i: why for i, why in bad.items() if i not in known}


def _fetched(dataset: Dataset, indices: Tensor) -> Batch:
    if hasattr(dataset, "raw"):
        return cast(RawDataset, dataset).raw(indices)
    return dataset.batch(indices)
