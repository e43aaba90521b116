"""Images held in memory, with random access by index."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gancompress.errors import DataError


class Dataset(Protocol):
    """What the training loop and the metrics ask of a set of images (ours)."""

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
        """Height and width in pixels."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``."""
        ...


class ArrayDataset:
    """A ``Dataset`` over uint8 images (n, c, h, w) and int64 labels (n,) in memory (ours).

    Raises:
        DataError: shapes, types or label values do not fit.
    """

    def __init__(
        self, images: Tensor, labels: Tensor | None = None, n_classes: int | None = None
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
            raise DataError(
                "images must be uint8 of shape (n, channels, side, side); "
                f"found {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            )
        if len(images) == 0:
            raise DataError("the data set holds no image")
        if labels is not None:
            if labels.shape != (len(images),):
                raise DataError(f"{len(images)} images need as many labels; found {labels.shape}")
            labels = labels.to(torch.int64)
            least, most = int(labels.min()), int(labels.max())
            n_classes = most + 1 if n_classes is None else n_classes
            if least < 0 or most >= n_classes:
                raise DataError(f"labels must lie in 0..{n_classes - 1}; found {least}..{most}")
        self.images = images
        self.labels = labels
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
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[3]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float32 images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``."""
        images = self.images[indices].to(torch.float32).div_(127.5).sub_(1.0)
        return images, None if self.labels is None else self.labels[indices]


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
