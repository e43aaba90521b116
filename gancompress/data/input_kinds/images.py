"""``x=images(DIR)``: pictures of a folder or file, as ``--data`` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from gancompress.data.arrays import size_of
from gancompress.data.folders import open_images
from gancompress.data.input_kinds.protocol import INPUT_KINDS, Stored
from gancompress.errors import ConfigError


class StoredImages:
    """Pictures as float32 (n, channels, height, width) in [-1, 1]."""

    def __init__(self, path: str) -> None:
        self._images: Any = open_images(path)
        names = getattr(self._images, "names", None)
        self.names = (
            [str(Path(str(n)).with_suffix("")) for n in names]
            if names
            else [str(i) for i in range(len(self._images))]
        )
        # By the headers: a size that is refused is not decoded first.
        self.shape = (self._images.channels, *size_of(self._images))

    def read(self, indices: Tensor) -> Tensor:
        """Return the pictures at ``indices``."""
        return self._images.batch(indices)[0]


@INPUT_KINDS.register("images")
def images(text: str) -> Stored:
    """Return pictures of a folder (with or without subfolders) or of an ``.npz``.

    Raises:
        ConfigError: no folder is named.
        DataError: there are no pictures, or they do not fit together.
    """
    if not text.strip():
        raise ConfigError("images take a folder: images(photos)")
    return StoredImages(text.strip())
