"""What the loop asks of data, and images held in memory or mapped from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gancompress.data.ranges import FULL, Range, range_of, tensor_of, to_unit
from gancompress.errors import DataError

MAX_CHANNELS = 32


class Dataset(Protocol):
    """What the training loop and the metrics ask of a set of images (ours).

    A data set may also have ``size`` (height and width, for rectangles), ``class_names`` (one for
    each label) and ``notes`` (lines that say how the files were read). Read them by `size_of`,
    `class_names_of` and `notes_of`, which know what holds without.
    """

    @property
    def n_classes(self) -> int | None:
        """Number of classes, or ``None`` when the images carry no labels."""
        ...

    @property
    def channels(self) -> int:
        """Image channels."""
        ...

    @property
    def resolution(self) -> int:
        """Height and width in pixels of square images.

        Raises:
            DataError: the images are rectangles; ``size`` has both sides.
        """
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``."""
        ...


class RawDataset(Dataset, Protocol):
    """A data set that hands out the numbers of its files, to be scaled where they are used."""

    def raw(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return images (n, c, h, w) as stored (uint8, uint16 or floats) and labels or ``None``."""
        ...

    def scaled(self, raw: Tensor) -> Tensor:
        """Return float32 images in [-1, 1] of what `raw` returned, on the device of ``raw``."""
        ...


def size_of(dataset: Dataset) -> tuple[int, int]:
    """Return height and width in pixels."""
    size = getattr(dataset, "size", None)
    return (
        (dataset.resolution, dataset.resolution) if size is None else (int(size[0]), int(size[1]))
    )


def class_names_of(dataset: Dataset) -> tuple[str, ...] | None:
    """Return the name of each label in order, or ``None`` when nothing names them."""
    names = getattr(dataset, "class_names", None)
    return tuple(str(name) for name in names) if names else None


def notes_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the lines that say how the files were read."""
    return tuple(getattr(dataset, "notes", ()))


def stems_of(dataset: Any) -> list[str] | None:
    """Return the file name of each sample, suffix aside; ``None`` where samples have no names.

    Mirrored pictures, which follow behind the others, are called ``NAME (mirrored)``.
    """
    names = getattr(dataset, "names", None)
    if not names:
        return None
    stems = [str(PurePath(str(name)).with_suffix("")) for name in names]
    if len(dataset) == 2 * len(stems):
        stems += [f"{stem} (mirrored)" for stem in stems]
    return stems


def described(dataset: Dataset) -> dict[str, Any]:
    """Return what a run keeps of its data: count, shape, class names in label order, notes."""
    return {
        "images": len(dataset),
        "channels": dataset.channels,
        "size": list(size_of(dataset)),
        "n_classes": dataset.n_classes,
        "classes": class_names_of(dataset),
        "notes": list(notes_of(dataset)),
    }


def square(size: tuple[int, int]) -> int:
    """Return the side of a square (height, width).

    Raises:
        DataError: it is a rectangle.
    """
    if size[0] != size[1]:
        raise DataError(
            f"the images are rectangles of {size[0]}x{size[1]} (height x width), not squares; "
            "read both sides from .size"
        )
    return size[0]


def checked_labels(labels: Tensor, count: int, n_classes: int | None) -> tuple[Tensor, int]:
    """Return labels (count,) as int64 and the number of classes.

    Raises:
        DataError: another count, or values outside the classes.
    """
    if labels.shape != (count,):
        raise DataError(f"{count} images need as many labels; found {tuple(labels.shape)}")
    labels = labels.to(torch.int64)
    least, most = int(labels.min()), int(labels.max())
    n_classes = most + 1 if n_classes is None else n_classes
    if least < 0 or most >= n_classes:
        raise DataError(f"labels must lie in 0..{n_classes - 1}; found {least}..{most}")
    return labels, n_classes


class ArrayDataset:
    """A ``Dataset`` over images (n, c, h, w) and int64 labels (n,) in memory or mapped (ours).

    Args:
        images: uint8 or uint16, or floats with ``values``; 1 to 32 channels. A numpy array may be
            a memory map: only what a batch asks for is read.
        labels: integers (n,), or ``None``.
        n_classes: number of classes; default: the largest label + 1.
        values: numbers that stand for black and white; default: the full range of the type.
        class_names: a name for each class.
        notes: lines that say how the files were read.

    ``names`` are those of its files, where each image is one; empty otherwise.

    Raises:
        DataError: shapes, types or label values do not fit.
    """

    def __init__(
        self,
        images: Tensor | np.ndarray,
        labels: Tensor | None = None,
        n_classes: int | None = None,
        *,
        values: Range | None = None,
        class_names: Sequence[str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        dtype, shape = _type_of(images), tuple(images.shape)
        if (dtype not in FULL and values is None) or len(shape) != 4:
            raise DataError(
                "images must be uint8 or uint16 of shape (n, channels, height, width), or floats "
                f"with values=(black, white); found {str(dtype).removeprefix('torch.')} {shape}"
            )
        if len(images) == 0:
            raise DataError("the data set holds no image")
        if not 1 <= shape[1] <= MAX_CHANNELS or 0 in shape:
            raise DataError(
                f"images need 1 to {MAX_CHANNELS} channels and some pixels; found {shape} "
                "(n, channels, height, width)"
            )
        if class_names is not None and n_classes is None:
            n_classes = len(class_names)
        if labels is not None:
            labels, n_classes = checked_labels(labels, len(images), n_classes)
        if class_names is not None and labels is not None and len(class_names) != n_classes:
            raise DataError(f"{n_classes} classes have {len(class_names)} names")
        # uint16 stays with numpy: torch neither indexes nor pickles it.
        wide = isinstance(images, Tensor) and images.dtype == torch.uint16
        self.images = images.numpy() if wide else images  # type: ignore[union-attr]
        self.labels = labels
        self.values = range_of(dtype, values, "images")
        self.class_names = tuple(class_names) if class_names and labels is not None else None
        self.notes = tuple(notes)
        self.names: Sequence[str] = ()
        self._n_classes = n_classes if labels is not None else None

    @property
    def n_classes(self) -> int | None:
        """Number of classes, or ``None`` without labels."""
        return self._n_classes

    @property
    def channels(self) -> int:
        """Image channels."""
        return self.images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    @property
    def resolution(self) -> int:
        """Height and width in pixels of square images."""
        return square(self.size)

    def __len__(self) -> int:
        return len(self.images)

    def raw(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return images (n, c, h, w) as stored and int64 labels (n,) or ``None``."""
        chosen = torch.as_tensor(indices)
        if isinstance(self.images, Tensor):
            images = self.images[chosen]
        else:
            images = tensor_of(self.images[chosen.numpy()])
        return images, None if self.labels is None else self.labels[chosen]

    def scaled(self, raw: Tensor) -> Tensor:
        """Return float32 images in [-1, 1]."""
        return to_unit(raw, self.values, "images")

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return float32 images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``."""
        images, labels = self.raw(indices)
        return self.scaled(images), labels


def padded(images: np.ndarray | Tensor, resolution: int) -> Tensor:
    """Return uint8 images (n, c, h, w) zero-padded evenly to ``resolution`` squared.

    Raises:
        DataError: the images are larger than ``resolution``, or the difference is odd.
    """
    # A copy: numpy may hand out read-only views of a file, which torch cannot own.
    tensor = torch.from_numpy(np.array(images)) if isinstance(images, np.ndarray) else images
    gap = resolution - tensor.shape[-1]
    if gap < 0 or gap % 2 or tensor.shape[-1] != tensor.shape[-2]:
        raise DataError(
            f"images of {tensor.shape[-2]}x{tensor.shape[-1]} cannot be padded evenly to "
            f"{resolution}x{resolution}"
        )
    return torch.nn.functional.pad(tensor, [gap // 2] * 4)


def _type_of(images: Any) -> torch.dtype:
    if isinstance(images, Tensor):
        return images.dtype
    return tensor_of(np.zeros(0, images.dtype)).dtype
