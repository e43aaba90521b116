"""Checkpoints that cannot be written are said; only the third in a row, or the last, is an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gancompress.errors import DivergedError, StorageError
from gancompress.training import saves
from gancompress.training.log import Log, Silent
from gancompress.training.saves import Saves
from gancompress.training.train_state import Snapshot


def snapshot(value: float = 1.0) -> Snapshot:
    return Snapshot(4, {"generator": {"w": torch.tensor([0.5, value])}}, {"total": 9})


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the disk is full, save by save; it has room once the list is used up."""
    full: list[bool] = []

    def save(*args: Any) -> None:
        if full and full.pop(0):
            raise StorageError("no space left")

    monkeypatch.setattr(saves, "save_checkpoint", save)
    return full


def test_two_failures_in_a_row_are_said_and_the_third_ends_the_run(
    disk: list[bool], tmp_path: Path
) -> None:
    told: list[str] = []

    class Listening(Silent):
        def event(self, text: str) -> None:
            told.append(text)

    own = Saves(tmp_path, Log(None, Listening()))
    disk += [True, True, False, True, True, True]
    for _ in range(5):
        own.save(snapshot(), last=False)
    assert len(told) == 4
    with pytest.raises(StorageError, match="no space"):
        own.save(snapshot(), last=False)


def test_the_last_save_must_be_written(disk: list[bool], tmp_path: Path) -> None:
    own = Saves(tmp_path, Log(None, Silent()))
    disk += [True]
    with pytest.raises(StorageError, match="no space"):
        own.save(snapshot(), last=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("folder", [True, False])
def test_what_is_not_finite_is_never_saved(bad: float, folder: bool, tmp_path: Path) -> None:
    own = Saves(tmp_path / "ckpt" if folder else None, Log(None, Silent()))
    with pytest.raises(DivergedError, match="step 4"):
        own.save(snapshot(bad), last=False)
    assert not (tmp_path / "ckpt").exists()
