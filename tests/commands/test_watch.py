"""Watching a run: only files are read, half-written lines are left, the end is seen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gancompress.cli import main
from gancompress.commands.watch import BLOCKS, spark, state_of


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "0002-ppcd-x"
    folder.mkdir(parents=True)
    (tmp_path / "runs" / "0001-ppcd-x").mkdir()
    lines = [
        {"step": i, "steps": 8, "g_loss": 1.0 / i, "params": 100 - i, "eta_seconds": 65.0}
        for i in range(1, 5)
    ]
    lines[1]["widths"], lines[3]["widths"] = {"a": 6, "b": 2}, {"a": 3, "b": 2}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 5, "st')
    events = [{"event": "groups", "text": "12 channels can go", "widths": {"a": 8, "b": 4}}]
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    (folder / "lock").write_text("1 host")
    return folder


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["watch", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_newest_run_with_its_last_whole_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(capsys)
    assert Path(found["run"]).name == run.name
    assert found["state"] == "running"
    assert found["last"]["step"] == 4
    assert found["widths"] == {"a": 3, "b": 2}
    assert found["full"] == {"a": 8, "b": 4}
    assert main(["watch", "--once"]) == 0
    text = capsys.readouterr().out
    for words in ("step 4/8", "1:05 left", "g_loss", "3 of 8", "2 of 4", "12 channels can go"):
        assert words in text


def test_states_of_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "lock").unlink()
    assert shown(capsys, str(run))["state"] == "stopped"
    (run / "summary.json").write_text("{}")
    assert shown(capsys, str(run))["state"] == "finished"
    empty = run.parent / "0003-new"
    empty.mkdir()
    (empty / "lock").write_text("1 host")
    assert shown(capsys, str(empty))["state"] == "starting"
    assert main(["watch", str(empty)]) == 0  # no terminal: once


def test_a_run_that_gives_no_sign_of_life_is_called_silent(run: Path) -> None:
    os.utime(run / "lock", (1e9, 1e9))
    assert state_of(run)["state"] == "silent"


def test_damaged_lines_cost_nothing_else(run: Path) -> None:
    (run / "metrics.jsonl").write_text('null\n[]\n{"step": 1, "g_loss": NaN}\n{"ste\n')
    state = state_of(run)
    assert state["last"]["step"] == 1
    assert state["curves"]["g_loss"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [(["none"], "no run folder none"), (["--every", "0"], "more than 0 seconds")],
)
def test_bad_input(
    words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", *words]) == 2
    assert message in capsys.readouterr().err


def test_no_run_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch"]) == 2
    assert "gancompress watch DIR" in capsys.readouterr().err


def test_a_line_of_blocks_rises_with_its_values() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7]) == BLOCKS
    assert spark([2.0]) == spark([3.0]) == BLOCKS[0]
    assert len(spark([float(i) for i in range(1000)])) == 40
    long = spark([float(i) for i in range(1000)])
    assert list(long) == sorted(long)
