"""Data sets of other libraries, seen as a `Dataset`: batches by index, images in [-1, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from gancompress.data.arrays import Dataset, checked_labels, square
from gancompress.data.ranges import Range, checked_range, range_of, span, to_unit
from gancompress.data.samples import LABEL_KEYS, SampleReader, found_shape
from gancompress.data.streams import kept
from gancompress.errors import ConfigError, DataError, GancompressError
from gancompress.modules.user_line import failing_line


def adapt(
    source: Any,
    *,
    values: object = None,
    image: str | int | None = None,
    label: str | int | None = None,
    limit: int | None = None,
) -> Dataset:
    """Return ``source`` as a `Dataset`.

    A data set with ``len`` and ``[index]`` (torch, torchvision, Hugging Face) is read by index. A
    ``DataLoader`` over one is as well, by its data set: order and batches are the loop's. Streams
    (``IterableDataset``, loaders over them or with a ``collate_fn`` of their own) are read once
    and kept in memory.

    Samples are images, tuples (image, label) in any order, or mappings. Images are tensors
    (c, h, w), arrays
    (h, w), (h, w, c) or (c, h, w), or Pillow pictures.

    Args:
        source: the data.
        values: (black, white), the numbers that become -1 and 1; needed for floats:
            ``(0, 1)`` after ``ToTensor``, ``(-1, 1)`` after ``Normalize``.
        image: key or place of the image in a sample; default: the usual ones.
        label: the same of the label; labels are optional.
        limit: how many samples of a stream to keep.

    Raises:
        DataError: samples are something else, differ in shape, or a stream is too long.
        ConfigError: ``source`` is none of these, or an option is none.
    """
    range_ = checked_range(values)
    if all(hasattr(source, name) for name in ("batch", "channels", "n_classes", "__len__")):
        return source
    if isinstance(source, (str, Path)):
        raise ConfigError(
            f"{str(source)!r} is a path: open it, gancompress.data.folders.open_images(path)"
        )
    reader = SampleReader(image, label, type(source).__name__)
    if isinstance(source, DataLoader):
        if not by_index(source):
            return kept(source, reader, range_, limit)
        source = source.dataset
    if isinstance(source, IterableDataset):
        return kept(source, reader, range_, limit)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        if limit is not None:
            raise ConfigError("limit is for streams; take a torch.utils.data.Subset")
        return Adapted(source, reader, range_)
    raise ConfigError(
        f"{type(source).__name__} is no data set: expected one with len() and [index], a torch "
        "IterableDataset or a DataLoader"
    )


def readable(source: Any) -> Any:
    """Return what the tasks read as it is, and anything else as `adapt` makes it.

    Read as they are: what has ``pairs`` or ``rows``, and what has ``batch`` and no ``[index]``.

    Raises:
        DataError: samples are something else, differ in shape, or end early.
        ConfigError: it is no data set.
    """
    own = hasattr(source, "batch") and not hasattr(source, "__getitem__")
    if source is None or own or hasattr(source, "pairs") or hasattr(source, "rows"):
        return source
    return adapt(source)


class Adapted:
    """A data set with ``len`` and ``[index]`` as a `Dataset` (ours); nothing is kept."""

    def __init__(self, source: Any, reader: SampleReader, values: Range | None) -> None:
        if len(source) == 0:
            raise DataError(f"{reader.where} holds no sample")
        self.source, self._reader = source, reader
        first, label = reader.read(self._sample(0), "sample 0")
        self._shape, self._dtype = tuple(first.shape), first.dtype
        seen = span(first.numpy()[None])
        self.values = range_of(first.dtype, values, f"{reader.where}: images", seen)
        self.class_names = _names_of(source, reader) if label is not None else None
        self._n_classes = None
        if label is not None:
            self._n_classes = len(self.class_names) if self.class_names else self._count()
        self.notes = (f"{reader.where}: {len(source):,} samples, read by index", *reader.notes)
        # What ends early or changes on the way shows at its end and in its middle: before step 0.
        self.raw([len(source) - 1, len(source) // 2])

    @property
    def n_classes(self) -> int | None:
        """Number of classes, or ``None`` without labels."""
        return self._n_classes

    @property
    def channels(self) -> int:
        """Image channels."""
        return self._shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._shape[1], self._shape[2]

    @property
    def resolution(self) -> int:
        """Height and width in pixels of square images."""
        return square(self.size)

    def __len__(self) -> int:
        return len(self.source)

    def raw(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return images (n, c, h, w) as stored and labels or ``None``.

        Raises:
            DataError: a sample is another thing than the first.
        """
        images: list[Tensor] = []
        labels: list[int] = []
        for i in torch.as_tensor(indices).tolist():
            what = f"sample {i}"
            image, label = self._reader.read(self._sample(i), what)
            if tuple(image.shape) != self._shape or image.dtype != self._dtype:
                raise DataError(
                    f"{self._reader.where}: {what} is {found_shape(image)}; sample 0 is "
                    f"{self._shape} {self._dtype}. Crop and resize in the data set"
                )
            if (label is None) != (self._n_classes is None):
                raise DataError(f"{self._reader.where}: only some samples have labels ({what})")
            images.append(image)
            labels += [] if label is None else [label]
        if self._n_classes is None:
            return torch.stack(images), None
        found, _ = checked_labels(torch.tensor(labels), len(images), self._n_classes)
        return torch.stack(images), found

    def _sample(self, index: int) -> Any:
        return sample_of(self.source, index, self._reader.where)

    def _count(self) -> int:
        """Return the largest label + 1: of ``targets`` where there are some, else of all samples.

        Raises:
            DataError: only some have labels, or a sample cannot be read.
        """
        reader, targets = self._reader, getattr(self.source, "targets", None)
        if targets is None:
            targets = [
                reader.parts(self._sample(i), f"sample {i}")[1] for i in range(len(self.source))
            ]
        missing = next((i for i, label in enumerate(targets) if label is None), None)
        if missing is not None:
            raise DataError(f"{reader.where}: only some samples have labels (not sample {missing})")
        return max(reader.number(label, f"sample {i}") for i, label in enumerate(targets)) + 1

    def scaled(self, raw: Tensor) -> Tensor:
        """Return float32 images in [-1, 1]."""
        return to_unit(raw, self.values, f"{self._reader.where}: images")

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return float32 images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``."""
        images, labels = self.raw(indices)
        return self.scaled(images), labels


def sample_of(source: Any, index: int, where: str) -> Any:
    """Return a sample; what fails in the user's own code is named, with its place.

    Raises:
        DataError: it fails, or there are fewer samples than ``len`` says.
    """
    try:
        return source[index]
    except GancompressError:
        raise
    except (IndexError, StopIteration) as error:
        raise DataError(
            f"{where} says that it holds {len(source):,} samples and ends early: there is no "
            f"sample {index:,} ({type(error).__name__}: {error})"
        ) from error
    except Exception as error:
        line = failing_line(error)
        place = f" at {line}" if line else ""
        raise DataError(
            f"{where}: sample {index:,} fails: {type(error).__name__}: {error}{place}"
        ) from error


def by_index(loader: DataLoader[Any]) -> bool:
    """Return whether all that a loader gives is its data set in some order."""
    sampler = loader.sampler
    whole = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    )
    return (
        not isinstance(loader.dataset, IterableDataset)
        and whole
        and type(loader.batch_sampler) in (BatchSampler, type(None))
        and loader.collate_fn in (default_collate, default_convert)
    )


def _names_of(source: Any, reader: SampleReader) -> tuple[str, ...] | None:
    """Return class names as torchvision (``classes``) or Hugging Face (``features``) hold them."""
    features = getattr(source, "features", None)
    if isinstance(features, Mapping):
        key = reader.label or next((k for k in LABEL_KEYS if k in features), None)
        names = getattr(features.get(key), "names", None)
    else:
        names = getattr(source, "classes", None)
    if isinstance(names, (list, tuple)) and names and all(isinstance(n, str) for n in names):
        return tuple(names)
    return None
