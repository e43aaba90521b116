from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.data.arrays import size_of
from gancompress.data.folders import open_images
from gancompress.data.framing import Frame
from gancompress.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("given", "size"),
    [(64, (64, 64)), ("64", (64, 64)), ("64x48", (64, 48)), ((3, 5), (3, 5)), ([7, 8], (7, 8))],
)
def test_sizes_as_people_type_them(given: object, size: tuple[int, int]) -> None:
    assert Frame.of(size=given).size == size
    assert Frame.of(crop=given).crop == size


@pytest.mark.parametrize(
    "given", ["", "64x", "x64", "a", "1x2x3", 0, -3, True, 2.5, 99999, (), "1e3"]
)
def test_no_sizes(given: object) -> None:
    with pytest.raises(ConfigError, match="size"):
        Frame.of(size=given)
    with pytest.raises(ConfigError, match="crop.*center"):
        Frame.of(crop=given)


def folder(path: Path, *sizes: tuple[int, int]) -> Path:
    for i, (height, width) in enumerate(sizes):
        columns = np.tile(np.linspace(0, 255, width), (height, 1)).astype(np.uint8)
        Image.fromarray(columns).save(path / f"{i}.png")
    return path


def test_rectangles_stay_rectangles(tmp_path: Path) -> None:
    data = open_images(folder(tmp_path, (6, 10), (6, 10)))
    assert size_of(data) == (6, 10)
    assert data.batch([0, 1])[0].shape == (2, 1, 6, 10)
    with pytest.raises(DataError, match=r"6x10 \(height x width\)"):
        data.resolution  # noqa: B018


def test_a_size_never_stretches(tmp_path: Path) -> None:
    folder(tmp_path, (20, 30))
    with pytest.raises(DataError, match=r"0\.png is 30x20.*crop='center'"):
        open_images(tmp_path, size=16)
    assert open_images(tmp_path, size=(10, 15)).batch([0])[0].shape == (1, 1, 10, 15)
    whole = open_images(tmp_path).batch([0])[0]
    data = open_images(tmp_path, size=20, crop="center")
    assert torch.equal(data.batch([0])[0], whole[..., 5:25])


def test_pictures_of_many_sizes_meet_in_one(tmp_path: Path) -> None:
    folder(tmp_path, (20, 30), (64, 16), (9, 9))
    data = open_images(tmp_path, size=8, crop="center")
    images, _ = data.batch([0, 1, 2])
    assert images.shape == (3, 1, 8, 8)
    rising = images.diff(dim=3)
    assert (rising > 0).all()
    with pytest.raises(DataError, match=r"1\.png is 16x64.*the first is 30x20.*size="):
        open_images(tmp_path)


def test_a_crop_keeps_the_scale(tmp_path: Path) -> None:
    folder(tmp_path, (20, 30), (16, 40))
    images, _ = open_images(tmp_path, crop=(16, 10)).batch([0, 1])
    assert images.shape == (2, 1, 16, 10)
    row = torch.from_numpy(np.linspace(0, 255, 30).astype(np.uint8)[10:20]) / 127.5 - 1
    torch.testing.assert_close(images[0, 0, 0], row)
    with pytest.raises(DataError, match=r"1\.png is 40x16.*smaller than crop=10x20"):
        open_images(tmp_path, crop=(20, 10))


def test_resizing_keeps_the_mean_and_the_range(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.uint8) * 255
    Image.fromarray(noise).save(tmp_path / "a.png")
    small = open_images(tmp_path, size=16).batch([0])[0]
    large = open_images(tmp_path).batch([0])[0]
    assert float(small.mean()) == pytest.approx(float(large.mean()), abs=0.02)
    assert float(small.std()) < 0.5 * float(large.std())  # filtered, not picked
    assert small.min() >= -1


def test_mirrored_pictures_follow_by_index(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        folder(tmp_path / name, (4, 6), (4, 6))
    plain, data = open_images(tmp_path), open_images(tmp_path, flip=True)
    assert len(data) == 2 * len(plain) == 8
    straight, labels = plain.batch([0, 3])
    mirrored, again = data.batch([4, 7])
    assert torch.equal(mirrored, straight.flip(-1))
    assert torch.equal(labels, again)
    assert torch.equal(data.batch([0, 3])[0], straight)
    for wrong in ([8], [-1]):
        with pytest.raises(IndexError):
            data.batch(wrong)


def test_arrays_are_framed_too(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 12)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(3))
    open_d = functools.partial(open_images, tmp_path / "d.npz", layout="nchw")
    data = open_d(crop="center", flip=True)
    images, labels = data.batch([1, 4])
    assert torch.equal(images[1], images[0].flip(-1))
    assert labels.tolist() == [1, 1]
    assert size_of(data) == (8, 8)
    plain = open_d().batch([1])[0]
    assert torch.equal(images[:1], plain[..., 2:10])
    assert open_d(size=4, crop="center").batch([0])[0].shape == (
        1,
        2,
        4,
        4,
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float16, np.float32])
def test_every_type_is_framed(tmp_path: Path, kind: type) -> None:
    top = 1 if kind in (np.float16, np.float32) else np.iinfo(kind).max
    x = (np.random.default_rng(0).random((2, 3, 8, 8)) * top).astype(kind)
    np.save(tmp_path / "d.npy", x)
    values = (0, top)
    plain = open_images(tmp_path / "d.npy", values=values).batch([0])[0]
    images, _ = open_images(tmp_path / "d.npy", values=values, flip=True).batch([0, 2])
    assert torch.equal(images[0], plain[0])
    assert torch.equal(images[1], plain[0].flip(-1))
    small = open_images(tmp_path / "d.npy", values=values, size=4, flip=True).batch([2])[0]
    assert float((small.mean() - plain.mean()).abs()) < 0.05


def test_pictures_of_16_bits_are_framed(tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.arange(8, dtype=np.uint16) * 9000, (8, 1))).save(tmp_path / "a.png")
    plain = open_images(tmp_path).batch([0])[0]
    images, _ = open_images(tmp_path, flip=True, crop=4, size=2).batch([0, 1])
    assert torch.equal(images[1], images[0].flip(-1))
    assert float((images[0].mean() - plain[..., 2:6, 2:6].mean()).abs()) < 0.02
