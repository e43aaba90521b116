"""Images of the user's own: a folder of pictures, an .npz, or the idx files of Fashion-MNIST."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gancompress.data.arrays import ArrayDataset, Dataset
from gancompress.data.fashion import fashion, is_fashion_folder
from gancompress.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
CACHE_BYTES = 2**30


def open_images(path: str | Path) -> Dataset:
    """Return the data set at ``path``: an image folder, an ``.npz`` with x (and y), or idx files.

    Raises:
        DataError: nothing of the kind is there, or the files do not fit together.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"no data at {str(path)!r}")
    if path.is_dir():
        return fashion(path) if is_fashion_folder(path) else ImageFolder(path)
    if path.suffix == ".npz":
        return read_npz(path)
    raise DataError(
        f"{str(path)!r} is neither a folder of images nor an .npz file with x (and y for labels)"
    )


def read_npz(path: Path) -> ArrayDataset:
    """Return the images ``x`` and labels ``y`` of an ``.npz`` file.

    ``x`` is uint8 of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3; ``y`` integers
    (n,), optional. Nothing pickled is read.

    Raises:
        DataError: the file is damaged, or holds other shapes or types.
    """
    try:
        # Opened here: numpy leaves a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            if "x" not in file:
                raise DataError(f"{path} has no array 'x'; it holds {', '.join(file) or 'nothing'}")
            x, y = file["x"], file.get("y")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if x.dtype != np.uint8:
        raise DataError(
            f"{path}: x must be uint8 (0..255); found {x.dtype}"
            + (f" in [{x.min():.3g}, {x.max():.3g}]" if x.size and x.dtype.kind in "fiu" else "")
        )
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise DataError(f"{path}: x has shape {x.shape}; expected (n, 1 or 3, side, side)")
    if y is not None and y.dtype.kind not in "iu":
        raise DataError(f"{path}: y must be integer labels; found {y.dtype}")
    labels = None if y is None else torch.from_numpy(y.astype(np.int64))
    return ArrayDataset(torch.from_numpy(np.array(x)), labels)


class ImageFolder:
    """A ``Dataset`` over picture files, read on demand and kept as far as memory allows (ours).

    With subfolders, each is a class, numbered in order of name; without, there are no labels. All
    pictures must be squares of one size, all grey or all colour: checked from their headers here,
    before any training.

    Raises:
        DataError: no pictures, an unreadable one, or sizes that differ; the file is named.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        classes = sorted(p for p in self.folder.iterdir() if p.is_dir() and _pictures(p))
        loose = _pictures(self.folder)
        if classes and loose:
            raise DataError(
                f"{self.folder} holds pictures ({loose[0].name}) beside class folders "
                f"({classes[0].name}/): move them into a class, or elsewhere"
            )
        self.classes = tuple(p.name for p in classes)
        self.files = [f for c in classes for f in _pictures(c)] if classes else loose
        if not self.files:
            raise DataError(f"{self.folder} holds no picture ({', '.join(SUFFIXES)})")
        counts = [len(_pictures(c)) for c in classes]
        each = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
        self.labels = each if classes else None
        self._channels, self._resolution = self._survey()
        self._cache: dict[int, Tensor] = {}
        self._room = CACHE_BYTES // (self._channels * self._resolution**2)

    @property
    def n_classes(self) -> int | None:
        """Number of class folders, or ``None``."""
        return len(self.classes) or None

    @property
    def channels(self) -> int:
        """1 when all pictures are grey, otherwise 3."""
        return self._channels

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self._resolution

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return float32 images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``.

        Raises:
            DataError: a file is damaged; it is named.
        """
        chosen = torch.as_tensor(indices)
        images = torch.stack([self._image(int(i)) for i in chosen])
        labels = None if self.labels is None else self.labels[chosen]
        return images.to(torch.float32).div_(127.5).sub_(1.0), labels

    def _image(self, index: int) -> Tensor:
        if index in self._cache:
            return self._cache[index]
        file = self.files[index]
        from PIL import Image

        try:
            with Image.open(file) as picture:
                array = np.array(picture.convert("L" if self._channels == 1 else "RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{file} is damaged: {error}. Repair or remove it") from error
        image = torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)
        if len(self._cache) < self._room:
            self._cache[index] = image
        return image

    def _survey(self) -> tuple[int, int]:
        from PIL import Image

        first: tuple[int, int] | None = None
        grey = True
        for file in self.files:
            try:
                with Image.open(file) as picture:
                    size, mode = picture.size, picture.mode
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise DataError(f"{file} is no readable picture: {error}. Remove it") from error
            first = first or size
            grey = grey and mode in ("L", "1")
            if size != first or size[0] != size[1]:
                raise DataError(
                    f"{file} is {size[0]}x{size[1]}; expected squares of one size, the first is "
                    f"{first[0]}x{first[1]}. Crop and resize them beforehand"
                )
        assert first is not None
        return (1 if grey else 3), first[0]


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
