from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancompress.data import index, picture_set, survey
from gancompress.data.folders import ImageFolder, open_images
from gancompress.data.index import Names
from gancompress.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(survey, "CACHE_FROM", 3)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("L", (8, 8), 10 * i).save(tmp_path / name / f"{i}.png")
    return tmp_path


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose headers are read."""
    names: list[str] = []
    real = picture_set.header

    def header(source: Path, name: str) -> picture_set.Header:
        names.append(os.path.relpath(name, Path(name).parent.parent))
        return real(source, name)

    monkeypatch.setattr(picture_set, "header", header)
    return names


def test_names_in_two_arrays() -> None:
    words = ["a/1.png", "", "bä/2.png", os.fsdecode(b"odd\xff.png")]
    names = Names.of(words)
    assert list(names) == words
    assert names[-1] == words[-1]
    assert names[1:3] == words[1:3]
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            names[wrong]


def test_what_is_known_is_not_read_again(folder: Path, looked: list[str], cache: Path) -> None:
    first = open_images(folder)
    assert len(looked) == 10
    looked.clear()
    second = open_images(folder)
    assert looked == []
    assert list(cache.rglob("*.npz"))
    for a, b in zip(first.batch(torch.arange(10)), second.batch(torch.arange(10))):
        assert torch.equal(a, b)


def test_what_has_changed_is_read_again(folder: Path, looked: list[str]) -> None:
    open_images(folder)
    looked.clear()
    Image.new("L", (8, 8), 99).save(folder / "a" / "2.png")
    os.utime(folder / "a" / "2.png", ns=(1, 1))
    (folder / "b" / "4.png").unlink()
    Image.new("L", (8, 8), 77).save(folder / "b" / "new.png")
    data = open_images(folder)
    assert looked == ["a/2.png", "b/new.png"]
    assert len(data) == 10
    looked.clear()
    Image.new("L", (9, 9), 99).save(folder / "a" / "2.png")
    with pytest.raises(DataError, match=r"2\.png is 9x9"):
        open_images(folder)


def test_a_damaged_cache_does_no_harm(folder: Path, looked: list[str], cache: Path) -> None:
    open_images(folder)
    (file,) = cache.rglob("*.npz")
    whole = file.read_bytes()
    for content in (b"", b"nonsense", whole[:-40], whole[: len(whole) // 2]):
        file.write_bytes(content)
        looked.clear()
        assert len(open_images(folder)) == 10
        assert len(looked) == 10
    with np.load(file) as found:
        arrays = dict(found)
    np.savez(file, **{**arrays, "rows": arrays["rows"][:3]})
    assert len(open_images(folder)) == 10


def test_a_cache_that_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blocked = tmp_path_factory.mktemp("blocked") / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("GANCOMPRESS_CACHE", str(blocked))
    assert not index.store("k", {"a": np.zeros(1)})
    assert len(open_images(folder)) == 10
    assert blocked.read_text() == "no folder"


def test_old_indexes_go(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(index, "KEPT", 2)
    for k in range(4):
        assert index.store(f"k{k}", {"a": np.array([k])})
        (newest,) = set(cache.rglob("*.npz")) - {f for f in cache.rglob("*.npz") if _old(f)}
        os.utime(newest, ns=(k + 1, k + 1))
    kept = [k for k in range(4) if index.load(f"k{k}")]
    assert kept == [2, 3]
    assert not list(cache.rglob("new-*"))


def _old(file: Path) -> bool:
    return file.stat().st_mtime_ns < 1000


def test_bad_files_are_skipped_and_counted(folder: Path) -> None:
    (folder / "a" / "1.png").write_bytes(b"no picture")
    whole = (folder / "a" / "3.png").read_bytes()
    (folder / "a" / "3.png").write_bytes(whole[: len(whole) - 30])  # only its pixels are damaged
    for i in (3, 4):
        (folder / "b" / f"{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png"):
        open_images(folder)
    data = open_images(folder, on_bad_sample="skip")
    assert isinstance(data, ImageFolder)
    assert len(data) == 10
    images, labels = data.batch(torch.arange(10))
    values = ((images[:, 0, 0, 0] + 1) * 12.75).round().int().tolist()
    # The next of the same class stands in, and no index moves.
    assert values == [0, 2, 2, 4, 4, 0, 1, 2, 0, 0]
    assert labels.tolist() == [0] * 5 + [1] * 5
    assert sorted(data.bad) == [1, 3, 8, 9]
    assert any("3 bad files are skipped" in note for note in data.notes)
    again = open_images(folder, on_bad_sample="skip")
    assert torch.equal(again.batch([3])[0], images[3:4])  # whatever was asked for before


def test_mostly_bad_is_no_data(folder: Path) -> None:
    for i in range(3):
        for name in ("a", "b"):
            (folder / name / f"{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match="more than half of the 10 files"):
        open_images(folder, on_bad_sample="skip")
    with pytest.raises(ConfigError, match="'replace' is none of error, skip"):
        open_images(folder, on_bad_sample="replace")


def test_a_class_without_a_good_picture(folder: Path) -> None:
    for i in range(5):
        (folder / "b" / f"{i}.png").write_bytes(b"")
    data = open_images(folder, on_bad_sample="skip")
    with pytest.raises(DataError, match="All of its class are bad"):
        data.batch([7])
