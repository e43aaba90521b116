"""Streams of samples: read once and kept, since they have no order that an index could mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from gancompress.data.arrays import ArrayDataset
from gancompress.data.ranges import Range, range_of, span
from gancompress.data.samples import SampleReader, found_shape
from gancompress.errors import ConfigError, DataError

MEMORY = 2**31
"""Bytes that a stream may take."""


def kept(
    source: Iterable[Any], reader: SampleReader, values: Range | None, limit: int | None
) -> ArrayDataset:
    """Read a stream once; batches of a loader are taken apart."""
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"limit must be a whole number of at least 1; found {limit!r}")
    images: list[Tensor] = []
    labels: list[int | None] = []
    size = rounds = 0
    for rounds, item in enumerate(source, 1):
        for image, label in _samples(item, reader, f"item {rounds - 1}", source):
            first = images[0] if images else image
            if image.shape != first.shape or image.dtype != first.dtype:
                raise DataError(
                    f"{reader.where}: item {rounds - 1} holds {found_shape(image)}; the first is "
                    f"{found_shape(first)}"
                )
            images.append(image)
            labels.append(label)
            size += image.numel() * image.element_size()
            if size > MEMORY:
                raise DataError(
                    f"{reader.where} gave {len(images):,} images, {size / 2**30:.1f} GiB, and goes "
                    "on. Streams are kept in memory: give limit=, uint8 images, or a data set "
                    "that is read by index"
                )
            if len(images) == limit:
                break
        if len(images) == limit:
            break
    _check_end(source, reader, rounds, len(images), limit)
    _check_workers(source, reader, images)
    known = [label for label in labels if label is not None]
    if known and len(known) != len(images):
        raise DataError(f"{reader.where}: only {len(known)} of {len(images)} samples have labels")
    stacked = torch.stack(images)
    range_of(stacked.dtype, values, f"{reader.where}: images", span(stacked[:64].numpy()))
    note = f"{reader.where}: {len(images):,} samples, read once and kept in memory"
    return ArrayDataset(
        stacked, torch.tensor(known) if known else None, values=values, notes=[note, *reader.notes]
    )


def _samples(
    item: Any, reader: SampleReader, what: str, source: Any
) -> Iterable[tuple[Tensor, int | None]]:
    if not isinstance(source, DataLoader) or source.batch_sampler is None:
        return [reader.read(item, what)]
    images, labels = reader.parts(item, what)
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise DataError(
            f"{reader.where}: {what} must be a batch of images (n, c, h, w); {found_shape(images)}"
        )
    if labels is None:
        return [(image, None) for image in images]
    if len(labels) != len(images):
        raise DataError(f"{reader.where}: {what} has {len(images)} images, {len(labels)} labels")
    return [(image, reader.number(label, what)) for image, label in zip(images, labels)]


def _check_workers(source: Any, reader: SampleReader, images: list[Tensor]) -> None:
    """Refuse a stream of which each worker of a loader gave all."""
    workers = getattr(source, "num_workers", 0)
    if workers < 2 or not isinstance(getattr(source, "dataset", None), IterableDataset):
        return
    counts = Counter(hash(image.numpy().tobytes()) for image in images)
    if min(counts.values()) >= workers:
        raise DataError(
            f"{reader.where}: each of {len(counts):,} images came {min(counts.values())} times: "
            f"every one of the {workers} workers gives all of {type(source.dataset).__name__}. "
            "Share them out (torch.utils.data.get_worker_info), or set num_workers=0"
        )


def _check_end(
    source: Any, reader: SampleReader, rounds: int, count: int, limit: int | None
) -> None:
    if not count:
        raise DataError(f"{reader.where} gave no sample")
    if limit is not None:
        if count < limit:
            raise DataError(f"{reader.where} ended after {count:,} samples; limit={limit:,}")
        return
    try:
        promised = len(source)
    except TypeError:  # a stream that does not say its length
        return
    if rounds < promised:
        raise DataError(
            f"{reader.where} says that it holds {promised:,} items and ended after {rounds:,}"
        )
    inside = getattr(source, "dataset", None)
    if isinstance(inside, IterableDataset) and not getattr(source, "drop_last", False):
        try:
            promised = len(inside)  # type: ignore[arg-type]
        except TypeError:
            return
        if count < promised:
            # A last batch that is too small looks to the loader like any last batch.
            raise DataError(
                f"{type(inside).__name__} says that it holds {promised:,} samples and ended after "
                f"{count:,}"
            )
