from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.data.folders import ImageFolder, open_images
from gancompress.data.npz import read_npz
from gancompress.errors import DataError


def picture(file: Path, side: int | tuple[int, int] = 8, mode: str = "RGB", value: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    size = (side, side) if isinstance(side, int) else side
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(file)
    return file


def test_class_folders(tmp_path: Path) -> None:
    for name, value in (("b", 10), ("a", 20)):
        for i in range(3):
            picture(tmp_path / name / f"{i}.png", value=value)
    data = open_images(tmp_path)
    assert isinstance(data, ImageFolder)
    assert (len(data), data.n_classes, data.channels, data.resolution) == (6, 2, 3, 8)
    assert data.classes == data.class_names == ("a", "b")
    for _ in range(2):  # from the file, then from memory
        images, labels = data.batch(torch.tensor([5, 0]))
        assert labels is not None
        assert labels.tolist() == [1, 0]
        assert images.shape == (2, 3, 8, 8)
        torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([10, 20]) / 127.5 - 1)
        torch.testing.assert_close(images[:, 2].unique(), torch.tensor([1.0]))


def test_a_flat_grey_folder_has_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", mode="L", value=255)
    picture(tmp_path / "2.jpg", mode="L", value=255)
    data = open_images(tmp_path)
    images, labels = data.batch(torch.tensor([0, 1]))
    assert labels is None
    assert data.n_classes is None
    assert images.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(("room", "kept"), [(4, 0), (5, 5)])
def test_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, kept: int
) -> None:
    monkeypatch.setattr("gancompress.data.picture_set.CACHE_BYTES", room * 3 * 8 * 8)
    for i in range(5):
        picture(tmp_path / f"{i}.png", value=i)
    data = ImageFolder(tmp_path)
    images, _ = data.batch(torch.arange(5))
    assert data._kept.sum() == kept
    assert (data._memory is None) == (kept == 0)
    again, _ = data.batch(torch.arange(5))
    assert torch.equal(images, again)


def test_pictures_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data at"):
        open_images(tmp_path / "absent")
    with pytest.raises(DataError, match="no picture"):
        open_images(tmp_path)
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "2.png", side=16)
    with pytest.raises(DataError, match=r"2\.png is 16x16.*first is 8x8"):
        open_images(tmp_path)
    picture(tmp_path / "b" / "2.png", side=(8, 9))
    with pytest.raises(DataError, match=r"2\.png is 8x9"):
        open_images(tmp_path)
    picture(tmp_path / "b" / "2.png")
    picture(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png"):
        open_images(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_truncated_pictures_are_named(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(suffix)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    whole = tmp_path / "x" / f"whole.{suffix}"
    whole.parent.mkdir()
    Image.fromarray(noise).save(whole)
    data = whole.read_bytes()
    broken = tmp_path / "x" / f"broken.{suffix}"
    for _ in range(20):
        broken.write_bytes(data[: rng.randrange(1, len(data) - 40)])
        with pytest.raises(DataError, match=f"broken.{suffix}"):
            open_images(tmp_path).batch(torch.tensor([0]))


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((4, 8, 8), 1), ((4, 8, 8, 3), 3), ((4, 3, 8, 8), 3), ((4, 1, 8, 8), 1), ((4, 8, 8, 1), 1)],
)
def test_npz_layouts(tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.array([0, 2, 1, 1]))
    data = open_images(tmp_path / "d.npz")
    assert (data.channels, data.resolution, data.n_classes, len(data)) == (channels, 8, 3, 4)
    images, labels = data.batch(torch.tensor([1]))
    assert labels is not None
    assert labels.item() == 2
    assert images.min() >= -1
    assert images.max() <= 1


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"z": np.zeros(3)}, "no array 'x'"),
        ({"x": np.zeros((2, 8, 8), np.float32) + 7}, r"uint8.*found float32 in \[7, 7\]"),
        ({"x": np.zeros((2, 9), np.uint8)}, r"\(2, 9\)"),
        ({"x": np.zeros((2, 40, 50, 60), np.uint8)}, r"\(2, 40, 50, 60\).*1 to 32 channels"),
        ({"x": np.zeros((2, 5, 8, 9), np.uint8)}, r"\(2, 5, 8, 9\).*layout"),
        ({"x": np.zeros((2, 8, 8)), "images": np.zeros((2, 8, 8))}, "x and images"),
        ({"x_train": np.zeros((2, 8, 8)), "x_test": np.zeros((2, 8, 8))}, "split='train'"),
        ({"x": np.zeros((0, 8, 8), np.uint8)}, "no image"),
        ({"x": np.zeros((2, 8, 8), np.uint8), "y": np.zeros(3, np.int64)}, "as many labels"),
        ({"x": np.zeros((2, 8, 8), np.uint8), "y": np.array([0.5, 1])}, "integer labels"),
        ({"x": np.zeros((2, 8, 8), np.uint8), "y": np.array([-1, 0])}, "-1..0"),
        ({"x": np.array([object()])}, "cannot read"),
    ],
)
def test_npz_that_does_not_fit(tmp_path: Path, arrays: dict, word: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=word) as caught:
        open_images(tmp_path / "d.npz")
    assert caught.value.exit_code == 3


def test_damaged_npz_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(DataError, match="cannot read"):
        read_npz(tmp_path / "d.npz")
    (tmp_path / "d.txt").write_text("hello")
    with pytest.raises(DataError, match="neither a folder"):
        open_images(tmp_path / "d.txt")
