from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from gancompress.data.arrays import ArrayDataset, padded
from gancompress.data.embedded import embedded
from gancompress.data.fashion import fashion, read_idx
from gancompress.data.folders import open_images
from gancompress.errors import DataError


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write(folder: Path, n: int = 6, labels: int | None = None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (n, 28, 28))
    y = np.arange(labels or n) % 10
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y)))


def test_idx_files_become_padded_images(tmp_path: Path) -> None:
    write(tmp_path)
    data = open_images(tmp_path)
    assert isinstance(data, ArrayDataset)
    assert (len(data), data.channels, data.resolution, data.n_classes) == (6, 1, 32, 10)
    images, labels = data.batch(torch.tensor([3]))
    assert labels is not None
    assert labels.item() == 3
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:30, 2:30] = False
    assert (images[0, 0][border] == -1).all()
    raw = read_idx(tmp_path / "train-images-idx3-ubyte.gz")
    assert torch.equal(data.images[3, 0, 2:30, 2:30], torch.from_numpy(raw[3].copy()))


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train-images"):
        fashion(tmp_path)
    write(tmp_path, labels=5)
    with pytest.raises(DataError, match="do not fit"):
        fashion(tmp_path)
    file = tmp_path / "x.gz"
    for data, word in [
        (b"not gzip", "cannot read"),
        (gzip.compress(idx(np.zeros((2, 3))))[:-9], "cannot read"),
        (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x01abcd"), "not an idx file"),
        (gzip.compress(b"\x00\x00"), "not an idx file"),
        (gzip.compress(idx(np.zeros((2, 3)))[:-1]), "truncated"),
    ]:
        file.write_bytes(data)
        with pytest.raises(DataError, match=word):
            read_idx(file)


def test_the_embedded_images() -> None:
    data = embedded()
    assert (len(data), data.channels, data.resolution, data.n_classes) == (2000, 1, 32, 10)
    assert data.labels is not None
    assert data.labels.bincount().tolist() == [200] * 10
    images, _ = data.batch(torch.arange(100))
    assert images.min() == -1
    assert images.max() == 1


def test_padding_that_cannot_be_even() -> None:
    with pytest.raises(DataError, match="28x28 cannot be padded evenly to 31x31"):
        padded(np.zeros((1, 1, 28, 28), np.uint8), 31)
    with pytest.raises(DataError, match="evenly to 16x16"):
        padded(np.zeros((1, 1, 28, 28), np.uint8), 16)


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="float32"):
        ArrayDataset(torch.zeros(2, 1, 8, 8))
    with pytest.raises(DataError, match=r"0\.\.2; found 0\.\.3"):
        ArrayDataset(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4), 3)
