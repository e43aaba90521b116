"""Read the idx files that MNIST-like data sets are published in."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gancompress.errors import DataError


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Return the uint8 array of one gzipped idx file (LeCun's format: magic, big-endian sizes, bytes).

    Raises:
        DataError: the file is missing, not gzip, or not an idx file of bytes.
    """
    try:
        raw = gzip.decompress(file.read_bytes())
    except FileNotFoundError:
        raise DataError(f"no file {file}; it is one of the four gzipped idx files") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is not a readable gzip file: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise DataError(f"{file} is not an idx file of unsigned bytes (magic {raw[:4].hex()})")
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4).astype(int)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank)
    if data.size != shape.prod():
        raise DataError(f"{file} holds {data.size} bytes, its header promises {shape.tolist()}")
    return data.reshape(shape)


def read_split(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (n, 28, 28) uint8 and labels (n,) of ``split``, ``"train"`` or ``"t10k"``.

    Raises:
        DataError: a file is missing or malformed, or images and labels differ in number.
    """
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    if len(images) != len(labels):
        raise DataError(f"{folder}: {len(images)} images but {len(labels)} labels in {split!r}")
    return images, labels.astype(np.int64)
