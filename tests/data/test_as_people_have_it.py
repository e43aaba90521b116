"""Data sets in the odd shapes that people bring: read as meant, or asked about."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gancompress.data.adapters import adapt
from gancompress.data.folders import open_images
from gancompress.data.layouts import labels_of
from gancompress.errors import ConfigError, DataError
from gancompress.tasks.paired import Joined

FIRST = torch.arange(2)


def picture(i: int = 0) -> np.ndarray:
    return np.full((8, 8, 3), 10 * i, np.uint8)


def shards(folder: Path, labels: Any, names: str = "{:05d}/img{:08d}.png") -> Path:
    files = [names.format(i // 2, i) for i in range(4)]
    for i, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(folder / file)
    if labels != "absent":
        given = [[f, n] for f, n in zip(files, labels, strict=False)] if labels else labels
        (folder / "dataset.json").write_text(json.dumps({"labels": given}))
    return folder


@pytest.mark.parametrize(
    ("labels", "seen", "note"),
    [
        ([2, 0, 1, 2], [2, 0], "labels of dataset.json"),
        ([[0, 1], [1, 0], [0, 1], [1, 0]], [1, 0], "labels of dataset.json"),
        ([], None, "without dataset.json"),
        (None, None, "without dataset.json"),
        ("absent", None, "without dataset.json"),
    ],
)
def test_an_unpacked_stylegan_set_is_read_like_its_zip(
    tmp_path: Path, labels: Any, seen: list[int] | None, note: str
) -> None:
    data = open_images(shards(tmp_path / "set", labels))
    x, y = data.batch(FIRST)
    assert (None if y is None else y.tolist()) == seen
    assert any(note in line for line in data.notes)
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for file in (tmp_path / "set").rglob("*.*"):
            out.write(file, file.relative_to(tmp_path / "set").as_posix())
    other, z = open_images(archive).batch(FIRST)
    assert torch.equal(x, other)
    assert (None if z is None else z.tolist()) == seen


def test_a_stray_dataset_json_does_not_hide_class_folders(tmp_path: Path) -> None:
    folder = shards(tmp_path / "plain", "absent", "{}/{}.png")
    (folder / "dataset.json").write_text('{"labels": {"cat": 0}}')
    assert open_images(folder).class_names == ("0", "1")
    (folder / "dataset.json").write_text("no json")
    assert open_images(folder).class_names == ("0", "1")
    named = shards(tmp_path / "named", [5, 4, 3, 0], "{}/{}.png")
    assert open_images(named).batch(FIRST)[1].tolist() == [5, 4]
    bad = shards(tmp_path / "bad", [5, 4, 3])
    with pytest.raises(DataError, match="no label for 00001/img00000003.png"):
        open_images(bad)


def test_a_folder_of_arrays_is_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        for i in range(3):
            np.save(tmp_path / f"{name}/{i}.npy", rng.integers(0, 255, (2, 8, 8), dtype=np.uint8))
    data = open_images(tmp_path / "y", flip=True)
    assert (len(data), data.channels, data.size) == (6, 2, (8, 8))
    x, labels = data.batch(torch.tensor([0, 3]))
    assert labels is None
    assert torch.equal(x[0], x[1].flip(-1))
    from gancompress.data.inputs import InputSampler

    joined = Joined(InputSampler.parse([f"x=npy({tmp_path / 'x'})"]), open_images(tmp_path / "y"))
    assert len(joined) == 3
    np.save(tmp_path / "y/3.npy", np.zeros((2, 8, 9), np.uint8))
    with pytest.raises(DataError, match=r"3.npy is \(2, 8, 9\) uint8, .*0.npy is"):
        open_images(tmp_path / "y")


def test_one_picture_is_no_set(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(DataError, match=r"one picture, or 16 grey ones .* \(1, 16, 16, 3\)"):
        open_images(tmp_path / "one.npy")
    np.save(tmp_path / "grey.npy", np.zeros((3, 16, 16), np.uint8))
    assert len(open_images(tmp_path / "grey.npy")) == 3
    np.save(tmp_path / "both.npy", np.zeros((3, 8, 16, 8), np.uint8))
    with pytest.raises(DataError, match="--layout nchw"):
        open_images(tmp_path / "both.npy")
    assert open_images(tmp_path / "both.npy", layout="nhwc").size == (8, 16)


def test_one_hot_rows_are_labels() -> None:
    assert labels_of(np.eye(3, dtype=np.float32)[[2, 0]], "y").tolist() == [2, 0]
    with pytest.raises(DataError, match=r"one-hot rows; found \(2, 3\) float32"):
        labels_of(np.full((2, 3), 0.5, np.float32), "y")


class Rows:
    """A data set with samples as they are given."""

    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda x, i: (i, x), [0, 1]),
        (lambda x, i: (x, i, f"{i}.png"), [0, 1]),
        (lambda x, i: {"picture": x, "label": i}, [0, 1]),
        (lambda x, i: (x, i, 7 + i), None),
    ],
)
def test_tuples_in_any_order(make: Any, labels: list[int] | None) -> None:
    data = adapt(Rows(*(make(picture(i), i) for i in range(3))))
    x, y = data.batch(FIRST)
    assert x.shape == (2, 3, 8, 8)
    assert (None if y is None else y.tolist()) == labels
    assert any("cannot be told" in note for note in data.notes) == (labels is None)


def test_a_path_is_no_data_set() -> None:
    with pytest.raises(ConfigError, match="open_images"):
        adapt("photos")


class Stream(IterableDataset[Any]):
    def __init__(self, shared: bool) -> None:
        self.shared = shared

    def __iter__(self) -> Any:
        info = get_worker_info()
        own = range(info.id, 8, info.num_workers) if info and self.shared else range(8)
        yield from (torch.full((1, 4, 4), i, dtype=torch.uint8) for i in own)


def test_workers_that_all_give_everything_are_refused() -> None:
    assert len(adapt(DataLoader(Stream(True), batch_size=2, num_workers=2))) == 8
    with pytest.raises(DataError, match=r"each of 8 images came 2 times.*get_worker_info"):
        adapt(DataLoader(Stream(False), batch_size=2, num_workers=2))
