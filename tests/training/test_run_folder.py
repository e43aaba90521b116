from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from gancompress.errors import ConfigError, StorageError
from gancompress.training.run_folder import LOCK, RunFolder, environment
from tests.training.nets import recipe


def test_numbers_rise_and_no_folder_is_taken_twice(tmp_path: Path) -> None:
    (tmp_path / "0007-old-one").mkdir()
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(RunFolder.create(tmp_path, "a-b").path))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in made) == [f"{n:04d}-a-b" for n in range(8, 16)]


def test_a_folder_in_use_is_refused_and_a_dead_lock_taken_over(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(recipe(), resume=False)
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        RunFolder(tmp_path / "run").begin(recipe(), resume=True)
    folder.release()
    # No process has this number: it is above the kernel's limit.
    (tmp_path / "run" / LOCK).write_text(f"{2**22 + 5} {socket.gethostname()}\n")
    RunFolder(tmp_path / "run").begin(recipe(), resume=True)
    # Killed between making the lock and writing it.
    (tmp_path / "run" / LOCK).write_text("")
    RunFolder(tmp_path / "run").begin(recipe(), resume=True)
    assert (tmp_path / "run" / LOCK).read_text().startswith(f"{os.getpid()} ")
    (tmp_path / "run" / LOCK).write_text("1 another-host\n")
    with pytest.raises(ConfigError, match="another-host"):
        RunFolder(tmp_path / "run").begin(recipe(), resume=True)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Choose another"):
        RunFolder.create(tmp_path / "file" / "runs", "x")
    with pytest.raises(StorageError, match="Choose another"):
        RunFolder(tmp_path / "file" / "run").begin(recipe(), resume=False)


def test_rewinding_drops_later_and_broken_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append("metrics.jsonl", {"step": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "cut sho')
    assert [line["step"] for line in folder.rewind("metrics.jsonl", 2)] == [1, 2]
    assert [line["step"] for line in folder.rewind("metrics.jsonl", 9)] == [1, 2]


def test_the_environment_names_versions() -> None:
    assert {"python", "torch", "git", "threads"} <= environment().keys()
