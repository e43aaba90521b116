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
        self.notes: list[str] = []
        self._places: tuple[int, int | None] | None = None

    def parts(self, sample: Any, what: str) -> tuple[Any, Any]:
        """Return the image and the label (or ``None``) of a sample.

        Raises:
            DataError: there is no image in it.
        """
        try:
            if isinstance(sample, Mapping):
                key = self._key(sample, self.image, IMAGE_KEYS)
                if key is None:
                    key = _only_image(sample)
                mark = self._key(sample, self.label, LABEL_KEYS)
                if key is not None:
                    return sample[key], None if mark is None else sample[mark]
            elif isinstance(sample, (tuple, list)):
                place, at = self._in(sample)
                return sample[place], None if at is None else sample[at]  # type: ignore[index]
            elif self.image is None:
                return sample, None
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self.where}: {what} has no {error}; {found_shape(sample)}"
            ) from error
        raise DataError(
            f"{self.where}: {what} has no image; {found_shape(sample)}. Say image= where it is"
        )

    def _in(self, sample: Sequence[Any]) -> tuple[Any, Any]:
        """Return the places of image and label in a tuple: as said, else as the first sample is."""
        if self._places is None:
            image, label = self.image, self.label
            if image is None:
                image = next(iter(images_in(sample)), 0)
            others = [i for i in range(len(sample)) if i != image]
            if label is None and len(others) > 1:
                numbers = [i for i in others if _is_number(sample[i])]
                label = numbers[0] if len(numbers) == 1 else None
                if label is None:
                    self.notes.append(
                        f"samples of {len(sample)} parts: which is the label cannot be told, none "
                        "is read (label=1 says it)"
                    )
            elif label is None and others:
                label = others[0]
            self._places = image, label  # type: ignore[assignment]
        return self._places  # type: ignore[return-value]

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


def images_in(sample: Any) -> list[Any]:
    """Return the keys or places of what may be images in a mapping or a tuple, in order."""
    if isinstance(sample, Mapping):
        ranks = {key: _rank(value) for key, value in sample.items()}
    elif isinstance(sample, (tuple, list)):
        ranks = {i: _rank(value) for i, value in enumerate(sample)}
    else:
        return []
    most = max(ranks.values(), default=0)
    return [key for key, rank in ranks.items() if rank == most >= 2]


def _only_image(sample: Mapping[Any, Any]) -> Any:
    """Return the key of the one value that may be an image; ``None``: none or several are."""
    found = images_in(sample)
    return found[0] if len(found) == 1 else None


def _rank(value: Any) -> int:
    """Return 2 or more of what may be an image, or a batch of them."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim
    return 3 if hasattr(value, "getexif") else 0


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim < 2 and not value.is_floating_point()
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def found_shape(value: Any) -> str:
    """Return ``found ...``: the shape or type of something, for a message."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"found {tuple(value.shape)} {value.dtype}"
    if isinstance(value, Mapping):
        return f"found the keys {', '.join(map(str, value))}"
    if isinstance(value, (tuple, list)):
        return f"found {type(value).__name__} of {', '.join(type(v).__name__ for v in value[:5])}"
    return f"found {type(value).__name__}"
