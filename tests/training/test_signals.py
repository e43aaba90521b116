"""What other systems lack: a run stops by the signals that there are, folders are not flushed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gancompress.storage import read_folder, write_folder
from gancompress.training.signals import Stop, stop_signals


def test_a_system_without_usr1_stops_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGUSR1", raising=False)
    assert set(stop_signals()) >= {signal.SIGINT, signal.SIGTERM}
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.agree()
    assert (stop.requested, stop.exit_code) == (signal.SIGTERM, 75)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_system_that_opens_no_folders_writes_them_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.O_DIRECTORY", raising=False)
    real = __import__("os").open

    def refuse(path: object, *words: object, **more: object) -> int:
        if isinstance(path, Path) and path.is_dir():
            raise PermissionError(13, "Permission denied")
        return real(path, *words, **more)

    monkeypatch.setattr("os.open", refuse)
    write_folder(tmp_path / "folder", {"a": b"1"}, {})
    assert read_folder(tmp_path / "folder")[1] == {"a": b"1"}
