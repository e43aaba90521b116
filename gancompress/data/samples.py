"""One sample of a foreign data set: where its image and its label are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gancompress.data.arrays import MAX_CHANNELS
from gancompress.data.layouts import layout_of
from gancompress.data.pictures import pixels_of
from gancompress.data.ranges import tensor_of
from gancompress.errors import DataError

IMAGE_KEYS = ("image", "img", "images", "imgs", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "fine_label", "target", "y", "cls")


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
            raise DataError(
                f"{self.where}: {what} has no {error}; {found_shape(sample)}"
            ) from error
        raise DataError(f"{self.where}: {what} has no image; {found_shape(sample)}")

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
            raise DataError(
                f"{where} is no image (1 to {MAX_CHANNELS}, h, w); {found_shape(image)}"
            )
        if isinstance(image, np.ndarray):
            kind = layout_of((1, *image.shape), None, where)
            image = image[None] if kind == "nhw" else image
            return tensor_of(image.transpose(2, 0, 1) if kind == "nhwc" else image)
        if hasattr(image, "getexif"):
            return tensor_of(pixels_of(image, where).transpose(2, 0, 1)).contiguous()
        raise DataError(f"{where} is no image; {found_shape(image)}")

    def number(self, label: Any, what: str) -> int:
        """Return a class number."""
        if isinstance(label, Tensor) and label.numel() == 1 and not label.is_floating_point():
            return int(label)
        if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
            return int(label)
        raise DataError(
            f"{self.where}: the label of {what} is no class number; {found_shape(label)}. "
            "Say label= where it is, or give images alone"
        )


def found_shape(value: Any) -> str:
    """Return ``found ...``: the shape or type of something, for a message."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"found {tuple(value.shape)} {value.dtype}"
    if isinstance(value, Mapping):
        return f"found the keys {', '.join(map(str, value))}"
    if isinstance(value, (tuple, list)):
        return f"found {type(value).__name__} of {', '.join(type(v).__name__ for v in value[:5])}"
    return f"found {type(value).__name__}"
