from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.data.arrays import ArrayDataset
from gancompress.data.folders import open_images
from gancompress.data.workers import Ahead
from gancompress.errors import ConfigError, DataError


def picks(step: int) -> torch.Tensor:
    return torch.randint(12, (4,), generator=torch.Generator().manual_seed(step))


def folder(path: Path, mode: str = "L") -> Path:
    for name in "ab":
        (path / name).mkdir()
        for i in range(6):
            value = 100 * (name == "b") + 10 * i
            Image.new(mode, (8, 8), value).save(path / name / f"{i}.png")
    return path


@pytest.mark.parametrize("mode", ["L", "I;16"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(tmp_path: Path, workers: int, mode: str) -> None:
    data = open_images(folder(tmp_path, mode))
    with Ahead(data, picks, workers=workers) as ahead:
        # In order, then back as after a rollback, then far ahead as after a resume.
        for step in (0, 1, 2, 3, 1, 2, 900):
            images, labels = ahead.batch(step)
            wanted, y = data.batch(picks(step))
            assert torch.equal(images, wanted)
            assert torch.equal(labels, y)
            assert images.dtype == torch.float32


@pytest.mark.parametrize("suffix", ["npy", "h5", "zip"])
def test_files_are_opened_in_each_worker(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8)).astype(np.uint8)
    path = tmp_path / f"d.{suffix}"
    if suffix == "npy":
        np.save(path, x)
    elif suffix == "h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["imgs"] = x
    else:
        import zipfile

        (tmp_path / "f").mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            for i, image in enumerate(x):
                Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "f" / f"{i:02d}.png")
                archive.write(tmp_path / "f" / f"{i:02d}.png", f"{i:02d}.png")
    data = open_images(path)
    data.batch(torch.arange(12))  # opened here before the workers are forked
    with Ahead(data, picks, workers=2) as ahead:
        for step in range(4):
            images, labels = ahead.batch(step)
            assert labels is None
            assert torch.equal(images, data.batch(picks(step))[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_named_and_counted(tmp_path: Path, workers: int) -> None:
    folder(tmp_path)
    whole = (tmp_path / "a" / "3.png").read_bytes()
    (tmp_path / "a" / "3.png").write_bytes(whole[: len(whole) - 30])
    with Ahead(open_images(tmp_path), lambda step: torch.arange(12), workers=workers) as ahead:
        with pytest.raises(DataError) as caught:
            ahead.batch(0)
        assert str(caught.value).startswith(f"{tmp_path}/a/3.png")
    data = open_images(tmp_path, on_bad_sample="skip")
    with Ahead(data, lambda step: torch.arange(12), workers=workers) as ahead:
        images, _ = ahead.batch(0)
        assert torch.equal(images[3], images[4])
        assert list(data.bad) == [3]


def test_a_data_set_of_the_users_own() -> None:
    class Own:
        n_classes, channels, resolution = None, 1, 4

        def __len__(self) -> int:
            return 12

        def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, None]:
            return indices.float().reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4) / 12, None

    with Ahead(Own(), picks, workers=1) as ahead:
        assert torch.equal(ahead.batch(3)[0][:, 0, 0, 0], picks(3) / 12)


@pytest.mark.parametrize("option", [{"workers": -1}, {"workers": 1.5}, {"prefetch": 0}])
def test_numbers_out_of_range(option: dict) -> None:
    data = ArrayDataset(torch.zeros(12, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=next(iter(option))):
        Ahead(data, picks, **option)
