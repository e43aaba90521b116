"""Data sets of other libraries, seen as a `Dataset`: batches by index, images in [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
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

from gancompress.data.arrays import (
    MAX_CHANNELS,
    ArrayDataset,
    Dataset,
    checked_labels,
    square,
)
from gancompress.data.layouts import layout_of
from gancompress.data.pictures import pixels_of
from gancompress.data.ranges import Range, checked_range, range_of, span, tensor_of, to_unit
from gancompress.errors import ConfigError, DataError

MEMORY = 2**31
"""Bytes that a stream may take: it has no order that an index could mean, so it is kept."""

IMAGE_KEYS = ("image", "img", "images", "imgs", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "y", "cls")


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

    Samples are images, tuples (image, label), or mappings. Images are tensors (c, h, w), arrays
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
    reader = SampleReader(image, label, type(source).__name__)
    if isinstance(source, DataLoader):
        if not _by_index(source):
            return _kept(source, reader, range_, limit)
        source = source.dataset
    if isinstance(source, IterableDataset):
        return _kept(source, reader, range_, limit)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        if limit is not None:
            raise ConfigError("limit is for streams; take a torch.utils.data.Subset")
        return Adapted(source, reader, range_)
    raise ConfigError(
        f"{type(source).__name__} is no data set: expected one with len() and [index], a torch "
        "IterableDataset or a DataLoader"
    )


class SampleReader:
    """Finds image and label in a sample, in the same place in all of them (ours)."""

    def __init__(self, image: str | int | None, label: str | int | None, where: str) -> None:
        self.image, self.label, self.where = image, label, where

    def parts(self, sample: Any, what: str) -> tuple[Any, Any]:
        """Return the image and the label (or ``None``) of a sample.

        Raises:
            DataError: there is no image in it.
        """
        try:
            if isinstance(sample, Mapping):
                key = self._key(sample, self.image, IMAGE_KEYS)
                mark = self._key(sample, self.label, LABEL_KEYS)
                if key is not None:
                    return sample[key], None if mark is None else sample[mark]
            elif isinstance(sample, (tuple, list)):
                place = 0 if self.image is None else self.image
                at = self.label if self.label is not None else (1 if len(sample) == 2 else None)
                return sample[place], None if at is None else sample[at]  # type: ignore[index]
            elif self.image is None:
                return sample, None
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(f"{self.where}: {what} has no {error}; {_shape(sample)}") from error
        raise DataError(f"{self.where}: {what} has no image; {_shape(sample)}")

    def _key(self, sample: Mapping[Any, Any], given: Any, usual: Sequence[str]) -> Any:
        return given if given is not None else next((k for k in usual if k in sample), None)

    def read(self, sample: Any, what: str) -> tuple[Tensor, int | None]:
        """Return the image (c, h, w) as it is stored, and its label or ``None``.

        Raises:
            DataError: they are something else.
        """
        image, label = self.parts(sample, what)
        return self.tensor(image, what), None if label is None else self.number(label, what)

    def tensor(self, image: Any, what: str) -> Tensor:
        """Return an image (c, h, w)."""
        where = f"{self.where}: {what}"
        if isinstance(image, Tensor):
            if image.ndim == 2:
                return image[None]
            if image.ndim == 3 and 1 <= image.shape[0] <= MAX_CHANNELS:
                return image
            raise DataError(f"{where} is no image (1 to {MAX_CHANNELS}, h, w); {_shape(image)}")
        if isinstance(image, np.ndarray):
            kind = layout_of((1, *image.shape), None, where)
            image = image[None] if kind == "nhw" else image
            return tensor_of(image.transpose(2, 0, 1) if kind == "nhwc" else image)
        if hasattr(image, "getexif"):
            return tensor_of(pixels_of(image, where).transpose(2, 0, 1)).contiguous()
        raise DataError(f"{where} is no image; {_shape(image)}")

    def number(self, label: Any, what: str) -> int:
        """Return a class number."""
        if isinstance(label, Tensor) and label.numel() == 1 and not label.is_floating_point():
            return int(label)
        if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
            return int(label)
        raise DataError(
            f"{self.where}: the label of {what} is no class number; {_shape(label)}. "
            "Say label= where it is, or give images alone"
        )


class Adapted:
    """A data set with ``len`` and ``[index]`` as a `Dataset` (ours); nothing is kept."""

    def __init__(self, source: Any, reader: SampleReader, values: Range | None) -> None:
        if len(source) == 0:
            raise DataError(f"{reader.where} holds no sample")
        self.source, self._reader = source, reader
        first, label = reader.read(source[0], "sample 0")
        self._shape, self._dtype = tuple(first.shape), first.dtype
        seen = span(first.numpy()[None])
        self.values = range_of(first.dtype, values, f"{reader.where}: images", seen)
        self.class_names = _names_of(source, reader) if label is not None else None
        self._n_classes = None
        if label is not None:
            self._n_classes = len(self.class_names) if self.class_names else _count(source, reader)
        self.notes = (f"{reader.where}: {len(source):,} samples, read by index",)

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
            image, label = self._reader.read(self.source[i], what)
            if tuple(image.shape) != self._shape or image.dtype != self._dtype:
                raise DataError(
                    f"{self._reader.where}: {what} is {_shape(image)}; sample 0 is "
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

    def scaled(self, raw: Tensor) -> Tensor:
        """Return float32 images in [-1, 1]."""
        return to_unit(raw, self.values, f"{self._reader.where}: images")

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return float32 images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``."""
        images, labels = self.raw(indices)
        return self.scaled(images), labels


def _by_index(loader: DataLoader[Any]) -> bool:
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


def _kept(
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
                    f"{reader.where}: item {rounds - 1} holds {_shape(image)}; the first is "
                    f"{_shape(first)}"
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
    known = [label for label in labels if label is not None]
    if known and len(known) != len(images):
        raise DataError(f"{reader.where}: only {len(known)} of {len(images)} samples have labels")
    stacked = torch.stack(images)
    range_of(stacked.dtype, values, f"{reader.where}: images", span(stacked[:64].numpy()))
    note = f"{reader.where}: {len(images):,} samples, read once and kept in memory"
    return ArrayDataset(
        stacked, torch.tensor(known) if known else None, values=values, notes=[note]
    )


def _samples(
    item: Any, reader: SampleReader, what: str, source: Any
) -> Iterable[tuple[Tensor, int | None]]:
    if not isinstance(source, DataLoader) or source.batch_sampler is None:
        return [reader.read(item, what)]
    images, labels = reader.parts(item, what)
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise DataError(
            f"{reader.where}: {what} must be a batch of images (n, c, h, w); {_shape(images)}"
        )
    if labels is None:
        return [(image, None) for image in images]
    if len(labels) != len(images):
        raise DataError(f"{reader.where}: {what} has {len(images)} images, {len(labels)} labels")
    return [(image, reader.number(label, what)) for image, label in zip(images, labels)]


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


def _count(source: Any, reader: SampleReader) -> int:
    """Return the largest label + 1: of ``targets`` where the data set has them, else of all."""
    targets = getattr(source, "targets", None)
    if targets is None:
        targets = [reader.parts(source[i], f"sample {i}")[1] for i in range(len(source))]
    missing = next((i for i, label in enumerate(targets) if label is None), None)
    if missing is not None:
        raise DataError(f"{reader.where}: only some samples have labels (not sample {missing})")
    return max(reader.number(label, f"sample {i}") for i, label in enumerate(targets)) + 1


def _shape(value: Any) -> str:
    if isinstance(value, (Tensor, np.ndarray)):
        return f"found {tuple(value.shape)} {value.dtype}"
    if isinstance(value, Mapping):
        return f"found the keys {', '.join(map(str, value))}"
    if isinstance(value, (tuple, list)):
        return f"found {type(value).__name__} of {', '.join(type(v).__name__ for v in value[:5])}"
    return f"found {type(value).__name__}"
