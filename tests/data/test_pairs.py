from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.data.arrays import ArrayDataset, size_of
from gancompress.data.pairs import paired, side_by_side
from gancompress.errors import ConfigError, DataError


def folder(path: Path, names: str, size: tuple[int, int] = (8, 8), mode: str = "L") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names.split():
        value = 10 * (ord(name.split("/")[-1][0]) - ord("a"))
        (path / name).parent.mkdir(exist_ok=True)
        Image.new(mode, size[::-1], value if mode == "L" else (value, 0, 0)).save(path / name)
    return path


def shown(images: torch.Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] + 1) * 12.75).round().int().tolist()


def test_names_make_pairs(tmp_path: Path) -> None:
    x = folder(tmp_path / "x", "a.png b.png c.jpg")
    y = folder(tmp_path / "y", "c.png a.png b.png", mode="RGB")
    data = paired(x, y)
    assert (len(data), data.channels, data.n_classes) == (3, 3, None)
    inputs, targets, labels = data.pairs(torch.tensor([2, 0]))
    assert labels is None
    assert (inputs.shape[1], targets.shape[1]) == (1, 3)
    assert shown(inputs) == shown(targets) == [2, 0]
    assert torch.equal(data.batch([2, 0])[0], targets)
    mirrored = paired(x, y, flip=True)
    assert len(mirrored) == 6
    assert shown(mirrored.pairs([5])[0]) == shown(mirrored.pairs([5])[1]) == [2]


def test_names_without_a_partner(tmp_path: Path) -> None:
    x = folder(tmp_path / "x", "a.png b.png c.png d.png")
    y = folder(tmp_path / "y", "b.png c.png e.png")
    with pytest.raises(DataError, match=r"2 inputs have no target \(a, d\); 1 targets.*\(e\)"):
        paired(x, y)
    with pytest.raises(DataError, match=r"two inputs are called a: a\.jpg and a\.png"):
        paired(folder(tmp_path / "z", "a.png a.jpg"), folder(tmp_path / "w", "a.png"))


def test_an_empty_domain(tmp_path: Path) -> None:
    x = folder(tmp_path / "x", "a.png")
    (tmp_path / "y").mkdir()
    for one, other in ((x, tmp_path / "y"), (tmp_path / "y", x)):
        with pytest.raises(DataError, match=r"y holds no picture"):
            paired(one, other)


def test_classes_on_one_side(tmp_path: Path) -> None:
    x, y = folder(tmp_path / "x", "a.png b.png"), folder(tmp_path / "y", "k/a.png l/b.png")
    with pytest.raises(DataError, match="class folders"):
        paired(x, y)
    data = paired(folder(tmp_path / "z", "k/a.png l/b.png"), y)
    assert data.class_names == ("k", "l")
    assert data.pairs([1])[2].tolist() == [1]


def test_sizes_of_pairs(tmp_path: Path) -> None:
    x = folder(tmp_path / "x", "a.png b.png", (8, 12))
    y = folder(tmp_path / "y", "a.png b.png", (16, 24))
    with pytest.raises(DataError, match=r"inputs are 12x8.*targets 24x16"):
        paired(x, y)
    with pytest.raises(DataError, match=r"12x8.* times scale=4, targets 24x16"):
        paired(x, y, scale=4)
    data = paired(x, y, scale=2)
    assert size_of(data) == (16, 24)
    inputs, targets, _ = paired(x, y, scale=2, crop=(4, 6), size=(2, 3)).pairs([0])
    assert (inputs.shape[2:], targets.shape[2:]) == ((2, 3), (4, 6))
    with pytest.raises(ConfigError, match="scale"):
        paired(x, y, scale=0)


def test_arrays_make_pairs_by_row() -> None:
    x = ArrayDataset(torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 4, 4))
    data = paired(x, ArrayDataset(255 - x.images))
    inputs, targets, _ = data.pairs(torch.tensor([2, 1]))
    torch.testing.assert_close(inputs, -targets)
    with pytest.raises(DataError, match="3 inputs and 2 targets"):
        paired(x, ArrayDataset(x.images[:2]))


def side(path: Path, width: int = 12) -> Path:
    path.mkdir()
    for name in "ab":
        halves = np.zeros((6, width, 3), np.uint8)
        halves[:, : width // 2, 0] = 200
        halves[:, width // 2 :, 1] = 100
        halves[:, 0] = halves[:, width // 2] = 255
        Image.fromarray(halves).save(path / f"{name}.png")
    return path


@pytest.mark.parametrize("ab", ["left", "right"])
def test_side_by_side_pictures_are_split(tmp_path: Path, ab: str) -> None:
    path = side(tmp_path / "d")
    data = side_by_side(path, ab=ab)
    assert (len(data), size_of(data)) == (2, (6, 6))
    inputs, targets, _ = data.pairs([0, 1])
    left, right = (inputs, targets) if ab == "left" else (targets, inputs)
    torch.testing.assert_close(left[:, 0, :, 1:].unique(), torch.tensor([200.0]) / 127.5 - 1)
    torch.testing.assert_close(right[:, 1, :, 1:].unique(), torch.tensor([100.0]) / 127.5 - 1)
    mirrored = side_by_side(path, ab=ab, flip=True)
    assert len(mirrored) == 4
    again = mirrored.pairs([2])
    assert torch.equal(again[0], inputs[:1].flip(-1))
    assert torch.equal(again[1], targets[:1].flip(-1))
    small = side_by_side(path, ab=ab, size=3)
    assert small.pairs([0])[0].shape == small.pairs([0])[1].shape == (1, 3, 3, 3)


def test_what_has_no_halves(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="13x6: an odd width"):
        side_by_side(side(tmp_path / "d", 13))
    with pytest.raises(ConfigError, match="'top' is none of left, right"):
        side_by_side(tmp_path / "d", ab="top")
    np.save(tmp_path / "d.npy", np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="only pictures"):
        side_by_side(tmp_path / "d.npy")
