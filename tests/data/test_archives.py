from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from gancompress.data.arrays import class_names_of, notes_of
from gancompress.data.folders import open_images
from gancompress.errors import ConfigError, DataError


def png(value: int, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 255)).save(buffer, "png")
    return buffer.getvalue()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def stylegan(path: Path, labels: object) -> Path:
    files = {f"00000/img{i:08d}.png": png(10 * i) for i in range(4)}
    return zipped(path, {**files, "dataset.json": json.dumps({"labels": labels}).encode()})


def pairs(*labels: object) -> list[list[object]]:
    return [[f"00000/img{i:08d}.png", label] for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    "labels", [(2, 0, 1, 2), ([0, 0, 1], [1, 0, 0], [0, 1, 0], [0.0, 0.0, 1.0])]
)
def test_stylegan_zips(tmp_path: Path, labels: tuple) -> None:
    data = open_images(stylegan(tmp_path / "d.zip", pairs(*labels)))
    images, found = data.batch(torch.tensor([3, 1]))
    assert found is not None
    assert found.tolist() == [2, 0]
    assert data.n_classes == 3
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([30.0, 10.0]) / 127.5 - 1)
    named = open_images(tmp_path / "d.zip", classes=["x", "y", "z"])
    assert class_names_of(named) == ("x", "y", "z")
    with pytest.raises(DataError, match="2 class names; found the label 2"):
        open_images(tmp_path / "d.zip", classes=["x", "y"])


def test_stylegan_zips_without_labels(tmp_path: Path) -> None:
    assert open_images(stylegan(tmp_path / "d.zip", None)).n_classes is None
    files = {f"00000/img{i:08d}.png": png(i) for i in range(4)}
    assert open_images(zipped(tmp_path / "e.zip", files)).n_classes is None
    with pytest.raises(DataError, match="no labels"):
        open_images(tmp_path / "d.zip", classes=["a"])


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (pairs(0, 1, 2), "no label for 00000/img00000003"),
        ([*pairs(0, 1, 2, 3), ["00000/gone.png", 1]], "gone.png, not there"),
        (pairs(0, 1, 2, 0.5), r"expected \[file, class\]"),
        (pairs(0, 1, 2, [0.2, 0.8]), r"expected \[file, class\]"),
        (pairs(0, 1, 2, True), r"expected \[file, class\]"),
        (pairs(0, 1, 2, -1), r"found -1\.\.2"),
        (pairs(0, 1, 2, 10**12), "labels must lie"),
        (["a"], r"expected \[file, class\]"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: object, word: str) -> None:
    with pytest.raises(DataError, match=word):
        open_images(stylegan(tmp_path / "d.zip", labels))


@pytest.mark.parametrize("root", ["", "pets/", "a/b/"])
def test_folders_that_were_packed(tmp_path: Path, root: str) -> None:
    files = {f"{root}{name}": png(i) for i, name in enumerate(["cat/1.png", "dog/2.png"])}
    files |= {"__MACOSX/cat/._1.png": b"x", f"{root}cat/.DS_Store": b"x"}
    data = open_images(zipped(tmp_path / "d.zip", files))
    assert class_names_of(data) == ("cat", "dog")
    assert data.batch(torch.arange(2))[1].tolist() == [0, 1]


def test_parts_in_a_zip_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no classes"):
        open_images(zipped(tmp_path / "d.zip", {"train/1.png": png(0), "test/1.png": png(1)}))


def test_damaged_zips(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "d.zip", {"1.png": png(0), "2.png": png(1)}).read_bytes()
    (tmp_path / "d.zip").write_bytes(whole[:-30])
    with pytest.raises(DataError, match="cannot read"):
        open_images(tmp_path / "d.zip")
    broken = bytearray(whole)
    at = whole.index(b"IDAT") + 8
    broken[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "d.zip").write_bytes(broken)
    with pytest.raises(DataError, match=r"d\.zip: 1\.png"):
        open_images(tmp_path / "d.zip").batch(torch.tensor([0]))
    with pytest.raises(DataError, match="no picture"):
        open_images(zipped(tmp_path / "e.zip", {"readme.txt": b"x"}))


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gancompress.data.zips.MAX_MEMBER", 10_000)
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(10_001))
    with pytest.raises(DataError, match=r"1\.png.*10,001 bytes"):
        open_images(tmp_path / "d.zip")


def tarred(path: Path, files: dict[str, bytes], kind: str = "w") -> Path:
    with tarfile.open(path, kind) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def shard(first: int, n: int = 3) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for i in range(first, first + n):
        files |= {f"{i:04d}.png": png(i), f"{i:04d}.cls": str(i % 4).encode(), f"{i:04d}.txt": b"x"}
    return files


def test_webdataset_shards(tmp_path: Path) -> None:
    for k in range(4):
        tarred(tmp_path / f"s-{k:03d}.tar", shard(3 * k))
    for path in (tmp_path, f"{tmp_path}/s-{{000..003}}.tar"):
        data = open_images(path)
        assert (len(data), data.n_classes, data.resolution) == (12, 4, 8)
        images, labels = data.batch(torch.tensor([11, 0, 5]))
        assert labels.tolist() == [3, 0, 1]
        torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([11.0, 0, 5]) / 127.5 - 1)
    assert len(open_images(tmp_path / "s-001.tar", flip=True)) == 6
    with pytest.raises(DataError, match=r"1 of 5 shards are missing: .*s-004\.tar"):
        open_images(f"{tmp_path}/s-{{000..004}}.tar")
    with pytest.raises(ConfigError, match="must rise"):
        open_images(f"{tmp_path}/s-{{3..1}}.tar")


def test_shards_without_labels(tmp_path: Path) -> None:
    files = {k: v for k, v in shard(0).items() if k.endswith(".png")}
    assert open_images(tarred(tmp_path / "d.tar", files)).n_classes is None
    with pytest.raises(DataError, match=r"0001\.png has no label"):
        open_images(tarred(tmp_path / "d.tar", {**files, "0000.cls": b"1"}))


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"1.png": png(0), "1.cls": b"cat"}, r"1\.cls holds b'cat'"),
        ({"1.png": png(0), "1.jpg": png(0)}, "two pictures of one sample"),
        ({"1.png": png(0), "1.cls": b"-1"}, "class number"),
        ({"1.txt": b"x"}, "no picture"),
        ({"1.png": b"no picture"}, r"d\.tar: 1\.png is no readable picture"),
    ],
)
def test_shards_that_do_not_fit(tmp_path: Path, files: dict, word: str) -> None:
    with pytest.raises(DataError, match=word):
        open_images(tarred(tmp_path / "d.tar", files))


def test_corrupt_tars(tmp_path: Path) -> None:
    path = tarred(tmp_path / "d.tar", shard(0, 6))
    whole = path.read_bytes()
    assert len(open_images(path)) == 6
    headers = [i for i in range(0, len(whole), 512) if whole[i + 257 : i + 262] == b"ustar"]
    # Cut off: within a header, within a picture, between two files.
    cuts = [0, 100, headers[6] + 100, headers[6] + 600, headers[6]]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"d\.tar is corrupt or cut off"):
            open_images(path)
    # A damaged header, which the reader alone takes for the end.
    for at in (headers[0], headers[6], headers[-1]):
        broken = bytearray(whole)
        broken[at + 150] ^= 0x55
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"d\.tar is corrupt or cut off"):
            open_images(path)


def test_links_and_packed_tars_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="no plain file"):
        open_images(tmp_path / "d.tar")
    tarred(tmp_path / "d.tar.gz", shard(0), "w:gz")
    with pytest.raises(DataError, match="compressed"):
        open_images(tmp_path / "d.tar.gz")


def test_an_archive_beside_what_it_held_is_no_shard(tmp_path: Path) -> None:
    tarred(tmp_path / "all.tar", shard(0))
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png(0))
    data = open_images(tmp_path)
    assert class_names_of(data) == ("a", "b")
    assert any("1 .tar" in note for note in notes_of(data))
