from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gancompress.data.classes import ordered, split_of
from gancompress.data.folders import ImageFolder, open_images
from gancompress.errors import ConfigError, DataError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / name).mkdir(parents=True, exist_ok=True)
        elif name.endswith((".png", ".PNG")):
            Image.new("RGB", (8, 8)).save(root / name)
        else:
            (root / name).write_text("x")
    return root


def opened(root: Path, **options: object) -> ImageFolder:
    found = open_images(root, **options)  # type: ignore[arg-type]
    assert isinstance(found, ImageFolder)
    return found


@pytest.mark.parametrize(
    "names",
    [
        ["train/a.png", "val/a.png"],
        ["train/a.png"],
        ["trainA/1.png", "trainB/1.png", "testA/2.png", "testB/2.png"],
        ["Training/1.png", "Testing/1.png", "other/1.png"],
        ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"],
        ["train2017/1.png", "val2017/1.png", "test2017/2.png"],
        ["train_images/1.png", "test_images/1.png"],
        ["valid/1.png", "train/1.png"],
        ["train_32x32/1.png", "test_32x32/1.png"],
        ["train-clean-100/1.png", "dev-clean-100/1.png"],
    ],
)
def test_parts_of_a_data_set_are_no_classes(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DataError, match="no classes") as caught:
        open_images(tree(tmp_path, *names))
    first = next(n for n in names if n.lower().startswith("tr")).split("/")[0]
    assert f"{tmp_path}/{first}" in str(caught.value)
    assert f"split={first!r}" in str(caught.value)


def test_a_part_is_opened_by_name(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/2.png")
    data = opened(tmp_path, split="val")
    assert data.class_names == ("cat", "dog")
    assert list(data.names) == ["cat/1.png", "dog/2.png"]
    for word in ("test", "../val", "", "."):
        with pytest.raises(DataError, match=r"no part .*train, val"):
            open_images(tmp_path, split=word)


def test_a_locomotive_is_a_class(tmp_path: Path) -> None:
    data = opened(tree(tmp_path, "bus/1.png", "car/1.png", "train/1.png"))
    assert data.class_names == ("bus", "car", "train")
    assert split_of("training set") == split_of("TRAIN") == "train"
    assert split_of("restaurant") is split_of("trainer") is split_of("valley") is None


@pytest.mark.parametrize(
    "names",
    [
        ["DIV2K_train_HR", "DIV2K_valid_HR"],
        ["flowers.train", "flowers.test", "notes"],
    ],
)
def test_parts_are_known_by_the_words_beside_them(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DataError, match="no classes") as caught:
        open_images(tree(tmp_path, *(f"{name}/1.png" for name in names)))
    assert f"split={names[0]!r}" in str(caught.value)
    assert opened(tmp_path, split=names[0]).n_classes is None


@pytest.mark.parametrize(
    "names", [["freight_train", "passenger_train"], ["test_tube", "train_station"], ["dev", "ops"]]
)
def test_classes_with_the_words_of_parts_are_classes(tmp_path: Path, names: list[str]) -> None:
    data = opened(tree(tmp_path, *(f"{name}/1.png" for name in names)))
    assert data.class_names == tuple(names)


def test_a_classes_file_makes_any_folder_a_class(tmp_path: Path) -> None:
    tree(tmp_path, "data/test/1.png", "data/train/1.png", "names")
    (tmp_path / "names").write_text("# means of transport\ntrain\ttrain of wagons\n\ntest\n")
    data = opened(tmp_path / "data", classes=tmp_path / "names")
    assert data.class_names == ("train of wagons", "test")
    assert list(data.names) == ["train/1.png", "test/1.png"]
    assert data.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "folder", [".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir", ".Trash-1000", "lost+found"]
)
def test_what_tools_leave_behind_is_no_class(tmp_path: Path, folder: str) -> None:
    data = opened(tree(tmp_path, "cat/1.png", "dog/1.png", f"{folder}/1.png", "cat/._1.png"))
    assert data.class_names == ("cat", "dog")
    assert len(data) == 2
    assert any(folder in note for note in data.notes)


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    assert len(opened(tree(tmp_path, "1.png", "._1.png", ".DS_Store", "2.PNG"))) == 2


def test_an_empty_class_would_shift_labels(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/", "c/1.png")
    with pytest.raises(DataError, match="'b' holds no picture"):
        open_images(tmp_path)
    data = opened(tmp_path, classes=["a", "b", "c"])
    assert data.n_classes == 3
    assert data.labels.tolist() == [0, 2]
    assert any("b" in note and "keep their labels" in note for note in data.notes)


def test_folders_of_folders_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "cat/persian/2.png")
    with pytest.raises(DataError, match=r"cat/persian.*one level"):
        open_images(tmp_path)
    tree(tmp_path / "deep", "images/faces/1.png")
    with pytest.raises(DataError, match=r"deep/images"):
        open_images(tmp_path / "deep")


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "2", "1"], ["1", "2", "9", "10"]),
        (["class10", "class2"], ["class2", "class10"]),
        (["007", "06", "10"], ["06", "007", "10"]),
        (["b", "a", "C"], ["C", "a", "b"]),
        (["a10", "b2"], ["a10", "b2"]),
        (["2", "10", "x"], ["10", "2", "x"]),
        (["n02", "n01"], ["n01", "n02"]),
    ],
)
def test_order_is_by_number_or_by_text(tmp_path: Path, names: list[str], order: list[str]) -> None:
    assert ordered(names) == order
    data = opened(tree(tmp_path, *[f"{name}/1.png" for name in names]))
    assert list(data.classes) == order
    assert any("numbers" in note for note in data.notes) == (order != sorted(order))


def test_pairs_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, "images/1.png", "images/2.png", "masks/1.png", "masks/2.png")
    with pytest.raises(DataError, match="pairs"):
        open_images(tmp_path)
    assert opened(tmp_path, classes=["masks", "images"]).n_classes == 2


def test_words_that_may_be_classes_are_pairs_only_file_by_file(tmp_path: Path) -> None:
    tree(tmp_path, "blur/1.png", "blur/2.png", "sharp/1.png")
    assert opened(tmp_path).class_names == ("blur", "sharp")
    tree(tmp_path, "sharp/2.png")
    with pytest.raises(DataError, match="pairs"):
        open_images(tmp_path)


def test_folders_that_only_divide_a_long_list_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, "00000/00000.png", "00000/00999.png", "01000/01000.png", "03000/03001.png")
    data = opened(tmp_path)
    assert data.n_classes is None
    assert len(data) == 4
    assert any("no classes" in note for note in data.notes)
    assert opened(tmp_path, classes=["01000", "00000"]).n_classes == 2
    tree(tmp_path, "03000/00007.png")
    assert opened(tmp_path).n_classes == 3


def test_one_folder_is_one_class_and_said(tmp_path: Path) -> None:
    data = opened(tree(tmp_path, "faces/1.png", "faces/2.png"))
    assert data.n_classes == 1
    assert any("faces" in note for note in data.notes)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    data = opened(tree(tmp_path, "1.png", "2.heic", "3.heic", "list.txt"))
    assert any("2 .heic, 1 .txt" in note for note in data.notes)


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["1.mp4", "2.mp4"], "2 films.*ffmpeg"),
        (["1.wav"], "open_sound"),
        (["1.heic"], "1 .heic"),
        (["a/", "b/"], "2 folders without pictures"),
    ],
)
def test_folders_without_pictures(tmp_path: Path, names: list[str], word: str) -> None:
    with pytest.raises(DataError, match=word):
        open_images(tree(tmp_path, *names))


@pytest.mark.parametrize(
    ("text", "error", "word"),
    [
        ("cat\ncat\n", ConfigError, "'cat' twice"),
        ("\n# none\n", ConfigError, "names no class"),
        ("cat\nhorse\nmule\n", DataError, "2 of the 3 classes: horse, mule"),
        ('{"cat": 1}', DataError, "list of names"),
        ("[1, 2]", DataError, "list of names"),
        ("[" * 100_000, DataError, "cannot read"),
    ],
)
def test_bad_classes_files(tmp_path: Path, text: str, error: type, word: str) -> None:
    tree(tmp_path / "d", "cat/1.png", "dog/1.png")
    file = tmp_path / ("names.json" if text[0] in "{[" else "names.txt")
    file.write_text(text)
    with pytest.raises(error, match=word):
        open_images(tmp_path / "d", classes=file)
    with pytest.raises(DataError, match="cannot read"):
        open_images(tmp_path / "d", classes=tmp_path / "absent")


def test_a_json_file_of_classes_selects(tmp_path: Path) -> None:
    tree(tmp_path / "d", "n1/1.png", "n2/1.png", "n3/1.png", "loose.png")
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"n3": "heron", "n1": "tench"}))
    data = opened(tmp_path / "d", classes=file)
    assert data.class_names == ("heron", "tench")
    assert list(data.names) == ["n3/1.png", "n1/1.png"]
    assert any("n2" in note for note in data.notes)
    file.write_text('["n1", "n2"]')
    assert opened(tmp_path / "d", classes=file).class_names == ("n1", "n2")
