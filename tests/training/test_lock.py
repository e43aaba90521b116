"""The lock of a run folder: held by the living, taken from the dead, never a dead end."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gancompress.errors import ConfigError
from gancompress.training import lock as module
from gancompress.training.lock import Holder, Lock, current, start_of

ABSENT = 2**22 + 5  # no process has this number: it is above the kernel's limit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE", 1.0)
    monkeypatch.setattr(module, "BEAT", 0.1)


@pytest.fixture
def other() -> Iterator[int]:
    """A living process of another program."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child.pid
    child.kill()
    child.wait()


def takes(file: Path) -> bool:
    lock = Lock(file)
    try:
        lock.take()
    except ConfigError:
        return False
    mine = file.read_text() == str(current())
    lock.release()
    assert not file.exists()
    assert not list(file.parent.iterdir())
    return mine


def test_one_holder_at_a_time(file: Path) -> None:
    lock = Lock(file)
    lock.take()
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()} .*delete {file}"):
        Lock(file).take()
    lock.release()
    assert takes(file)


def test_what_is_written_is_read(file: Path) -> None:
    assert Holder.parse(str(current())) == current()
    assert Holder.parse("12 host\n") == Holder(12, "host")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, b"not a lock", b"\xff\xfe\x00", b"1" * 5000, b"-1 host", b"12", b"\n\n"],
)
def test_what_nobody_wrote_is_nobodys(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert takes(file)


def test_a_folder_in_place_of_a_lock(file: Path) -> None:
    (file / "inner").mkdir(parents=True)
    assert takes(file)


def test_the_dead_hold_nothing(file: Path) -> None:
    file.write_text(str(dataclasses.replace(current(), pid=ABSENT)))
    assert takes(file)


def test_a_reused_number_is_another_process(file: Path, other: int) -> None:
    file.write_text(str(dataclasses.replace(current(), pid=other, start="12")))
    assert takes(file)
    file.write_text(str(dataclasses.replace(current(), pid=other, start=start_of(other) or "")))
    assert not takes(file)
    # One of its own number: in a container every program is process 1.
    file.write_text(str(dataclasses.replace(current(), start="12")))
    assert takes(file)


def test_a_killed_process_that_nobody_waited_for(file: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    file.write_text(str(dataclasses.replace(current(), pid=child.pid, start=start_of(child.pid))))
    child.kill()
    end = time.monotonic() + 20
    while start_of(child.pid) is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert takes(file)
    child.wait()


ELSEWHERE = [{"host": "far-away"}, {"boot": "another-boot"}, {"space": "77"}]


@pytest.mark.parametrize("change", ELSEWHERE, ids=["host", "boot", "container"])
def test_a_holder_elsewhere_that_gives_no_signs_is_gone(file: Path, change: dict[str, str]) -> None:
    holder = dataclasses.replace(current(), **change)
    file.write_text(str(holder))
    assert takes(file)
    file.write_text(str(holder))
    long_ago = time.time() - 9000
    os.utime(file, (long_ago, long_ago))
    started = time.monotonic()
    assert takes(file)
    assert time.monotonic() - started < module.LEASE, "an old one needs no waiting"


@pytest.mark.parametrize("change", ELSEWHERE, ids=["host", "boot", "container"])
def test_a_holder_elsewhere_that_gives_signs_is_left_alone(
    file: Path, change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    far = dataclasses.replace(current(), **change)
    monkeypatch.setattr(module, "LEASE", 20.0)
    lock = Lock(file)
    with monkeypatch.context() as patch:
        patch.setattr(module, "current", lambda: far)
        lock.take()
    with pytest.raises(ConfigError, match="in use"):
        Lock(file).take()
    assert file.read_text() == str(far)
    lock.release()
    assert not file.exists()


def test_locks_of_an_earlier_version(file: Path, other: int) -> None:
    host = current().host
    file.write_text(f"{ABSENT} {host}\n")
    assert takes(file)
    file.write_text(f"{os.getpid()} {host}\n")
    assert not takes(file)
    # The process began after the lock was written: it is not the one that wrote it.
    file.write_text(f"{other} {host}\n")
    os.utime(file, (1e9, 1e9))
    if Path("/proc/uptime").exists():
        assert takes(file)
    # It gave no signs of life: only the user knows.
    file.write_text("7 far-away\n")
    with pytest.raises(ConfigError, match=f"far-away.*delete {file}"):
        Lock(file).take()


def test_only_ones_own_lock_is_given_back(file: Path) -> None:
    lock = Lock(file)
    lock.take()
    file.write_text("7 far-away\n")
    lock.release()
    assert file.read_text() == "7 far-away\n"


def test_a_lock_that_was_taken_meanwhile_is_never_away(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two judge the same dead holder; the slower one must not open a gap for a third."""
    file.write_text("the one who was faster")
    monkeypatch.setattr(module.os, "rename", lambda *paths: pytest.fail("it was away"))
    module._remove(file, "the dead one")
    assert file.read_text() == "the one who was faster"
