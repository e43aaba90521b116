"""Folders are whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from gancompress.errors import CheckpointError, StorageError
from gancompress.storage import MANIFEST, read_folder, sealed, write_folder

FILES = {"a.bin": b"abc" * 100, "b.json": b"{}"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    final = tmp_path / "deep" / "run"
    write_folder(final, FILES, {"format": 1})
    return final


def test_round_trip(folder: Path) -> None:
    manifest, files = read_folder(folder)
    assert files == FILES
    assert manifest["format"] == 1
    assert manifest["files"]["a.bin"]["bytes"] == 300
    assert [p.name for p in folder.parent.iterdir()] == ["run"], "no draft is left"


def test_existing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(StorageError, match="exists already; choose another folder"):
        write_folder(folder, {"a.bin": b"new"}, {})
    assert read_folder(folder)[1] == FILES


def test_replacing_leaves_the_new_one_only(folder: Path) -> None:
    write_folder(folder, {"c": b"new"}, {"format": 2}, replace=True)
    assert read_folder(folder)[1] == {"c": b"new"}
    assert sorted(p.name for p in folder.iterdir()) == ["c", MANIFEST]
    assert [p.name for p in folder.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("moment", ["fsync", "rename"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_what_was_there(
    folder: Path, moment: str, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = folder if exists else folder.with_name("other")
    real, calls = getattr(os, moment), 0

    def fails(*args: object) -> object:
        nonlocal calls
        calls += 1
        # With `rename`, the old folder has stepped aside already: it must come back.
        if moment == "fsync" or calls == 1 + exists:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, moment, fails)
    with pytest.raises(StorageError, match=r"cannot write .*No space left on device\. Free space"):
        write_folder(final, {"c": b"new"}, {}, replace=True)
    monkeypatch.undo()
    assert read_folder(folder)[1] == FILES
    assert [p.name for p in folder.parent.iterdir()] == ["run"]


def test_a_file_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        write_folder(tmp_path / "file" / "run", FILES, {})


def test_changed_and_truncated_files_are_named(folder: Path) -> None:
    file = folder / "a.bin"
    for damage in (b"abd" * 100, b"abc" * 99, b""):
        file.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"a\.bin is damaged: its SHA-256"):
            read_folder(folder)
    file.unlink()
    with pytest.raises(CheckpointError, match="not a readable folder"):
        read_folder(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"files": 3}', '{"files": {"a.bin": 1}}', "\xff", "[" * 100_000,
     '{"files": {"": {}}}', '{"files": {"..": {}}}', '{"files": {"a\\u0000": {}}}'],
)  # fmt: skip
def test_damaged_manifests_are_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError):
        read_folder(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/a.bin", "../../x"])
def test_a_manifest_cannot_reach_outside(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("s")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"sha256": "0", "bytes": 1}
    (folder / MANIFEST).write_bytes(sealed(manifest))
    with pytest.raises(CheckpointError, match="outside the folder"):
        read_folder(folder)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        read_folder(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError):
        read_folder(tmp_path / "file")


def test_extra_files_are_ignored(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert read_folder(folder)[1] == FILES
    shutil.rmtree(folder)


def test_a_record_that_was_edited_is_not_believed(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    for changed in (
        text + " ",
        text.replace('"format": 1', '"format":  1'),
        text.replace("1", "2"),
    ):
        (folder / MANIFEST).write_text(changed)
        with pytest.raises(CheckpointError, match="damaged or was edited"):
            read_folder(folder)
    # Without one of its two marks, and as earlier versions wrote it: with neither.
    listed = json.loads(text)
    for gone in ("seal", "sealed"):
        kept = {k: v for k, v in listed.items() if k != gone}
        (folder / MANIFEST).write_text(json.dumps(kept, indent=1))
        with pytest.raises(CheckpointError, match="damaged or was edited"):
            read_folder(folder)
    plain = {k: v for k, v in listed.items() if k not in ("seal", "sealed")}
    (folder / MANIFEST).write_text(json.dumps(plain))
    assert read_folder(folder)[1] == FILES


def test_what_has_no_end_is_not_read(folder: Path) -> None:
    for name in ("a.bin", MANIFEST):
        kept = (folder / name).read_bytes()
        for make in (os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.mkdir()):
            (folder / name).unlink()
            make(folder / name)
            with pytest.raises(CheckpointError, match="no plain file"):
                read_folder(folder)
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
            (folder / name).write_bytes(kept)
    assert read_folder(folder)[1] == FILES
