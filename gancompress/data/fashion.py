"""Fashion-MNIST from its four idx files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from gancompress.data.arrays import ArrayDataset, padded
from gancompress.errors import DataError

CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def read_idx(file: Path) -> np.ndarray:
    """Return the uint8 array of a gzipped idx file (LeCun's format: magic, sizes, bytes).

    Raises:
        DataError: the file is missing, damaged, or holds something else than bytes.
    """
    try:
        raw = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{file} is not an idx file of bytes (first bytes {raw[:4].hex()})")
    shape = tuple(np.frombuffer(raw, ">u4", count=raw[3], offset=4).astype(int))
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if body.size != int(np.prod(shape)):
        raise DataError(f"{file} declares {shape} and holds {body.size} bytes: truncated?")
    return body.reshape(shape)


def fashion(folder: str | Path, *, train: bool = True, resolution: int = 32) -> ArrayDataset:
    """Return Fashion-MNIST of ``folder`` (searched for ``train-images-idx3-ubyte.gz`` and so on).

    Images are (60000 or 10000, 1, resolution, resolution) uint8, padded with background 0.

    Raises:
        DataError: a file is missing or damaged.
    """
    part = "train" if train else "t10k"
    images, labels = (
        read_idx(_find(Path(folder), f"{part}-{kind}-ubyte.gz"))
        for kind in ("images-idx3", "labels-idx1")
    )
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{folder}: images {images.shape} do not fit labels {labels.shape}")
    return ArrayDataset(
        padded(images[:, None], resolution),
        torch.as_tensor(labels.astype(np.int64)),
        len(CLASSES),
        class_names=CLASSES,
    )


def is_fashion_folder(folder: str | Path) -> bool:
    """Return whether ``folder`` itself holds the idx files of the training set."""
    return (Path(folder) / "train-images-idx3-ubyte.gz").is_file()


def _find(folder: Path, name: str) -> Path:
    if (folder / name).is_file():
        return folder / name
    raise DataError(f"no {name} in {folder}")
