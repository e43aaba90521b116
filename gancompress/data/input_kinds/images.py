"""``x=images(DIR)``, ``x=images(DIR,size=64,flip)``: pictures, as ``--data`` reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from gancompress.data.arrays import size_of, stems_of
from gancompress.data.folders import open_images
from gancompress.data.input_kinds.protocol import INPUT_KINDS, Stored
from gancompress.errors import ConfigError


class StoredImages:
    """Pictures as float32 (n, channels, height, width) in [-1, 1].

    Attributes:
        named: whether the names are those of files, not numbers of rows.
    """

    def __init__(self, path: str, **options: Any) -> None:
        self._images: Any = open_images(path, **options)
        names = stems_of(self._images)
        self.named = names is not None
        self.names = names or [str(i) for i in range(len(self._images))]
        # By the headers: a size that is refused is not decoded first.
        self.shape = (self._images.channels, *size_of(self._images))

    def read(self, indices: Tensor) -> Tensor:
        """Return the pictures at ``indices``."""
        return self._images.batch(indices)[0]


@INPUT_KINDS.register("images")
def images(text: str) -> Stored:
    """Return pictures of a folder (with or without subfolders), an archive or an array file.

    Behind it may stand what the flags of ``--data`` say: ``size=64x48``, ``crop=center``,
    ``flip``, ``split=train``, ``values=0:1`` (black and white, of floats), ``layout=nchw``.

    Raises:
        ConfigError: no folder is named, or an option is none.
        DataError: there are no pictures, or they do not fit together.
    """
    if text.strip() and Path(text.strip()).exists():  # commas in its name and all
        return StoredImages(text.strip())
    options: dict[str, Any] = {}
    path, comma, last = text.strip().rpartition(",")
    while comma and (found := _OPTION.match(last.strip())):
        name, value = found["name"], found["value"]
        if (value is None) != (name == "flip") or name in options:
            raise ConfigError(f"images({text}): {last.strip()!r} is not understood. {_KNOWN}")
        options[name] = True if value is None else _range(value) if name == "values" else value
        text = path
        path, comma, last = text.rpartition(",")
    if not text.strip():
        raise ConfigError("images take a folder: images(photos)")
    if "=" in last and not Path(text.strip()).exists():
        raise ConfigError(f"images({text}): {last.strip()!r} is not understood. {_KNOWN}")
    return StoredImages(text.strip(), **options)


_OPTION = re.compile(r"^(?P<name>size|crop|flip|split|values|layout)(?:=(?P<value>[^=]+))?$")
_KNOWN = "Behind the folder may stand size=64x48, crop=center, flip, split=train, values=0:1"


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in text.split(":"))
    except ValueError:
        raise ConfigError(
            f"values={text}: black and white with a colon between, for example values=0:1"
        ) from None
    return low, high
