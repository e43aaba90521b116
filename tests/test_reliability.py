"""The campaign runs, goes on where it stopped, and tells a broken promise from a kept one."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.reliability import campaign, fuzz, table
from benchmarks.reliability.row import BrokenPromiseError, Row, Trial
from gancompress.errors import DataError, GancompressError

ROWS = campaign.rows()


def test_every_promise_has_its_own_row() -> None:
    labels = [row.label for row in ROWS.values()]
    assert len(set(labels)) == len(labels)
    assert all(row.goal > 0 and row.promise for row in ROWS.values())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "hostile" else ())
        for name, row in sorted(ROWS.items())
        if row.sample and not row.forks
    ],
)
def test_a_few_trials_of_each_row_hold(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    with campaign.silent():
        trial = row.prepare(tmp_path)
    for number in range(0, row.goal, max(1, row.goal // row.sample)):
        kind, fault = campaign.attempt(row, name, trial, 1, number)
        assert not fault, f"trial {number} ({kind}): {fault}"


@pytest.mark.slow
def test_a_few_trials_of_runs_in_children_hold(tmp_path: Path) -> None:
    """In a process of their own: this one has computed gradients, which a fork does not survive."""
    code = (
        "from pathlib import Path; from benchmarks.reliability import campaign\n"
        f"rows, where = campaign.rows(), Path({str(tmp_path)!r})\n"
        "for name, row in rows.items():\n"
        "    if row.forks:\n"
        "        found = campaign.campaign(name, count=row.sample, seconds=1e9, results=where)\n"
        "        assert found['held'] == row.sample, found['failures']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=campaign.record.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.iterdir())) == sum(row.forks for row in ROWS.values())


def odd(folder: Path) -> Trial:
    def trial(rng: random.Random, number: int) -> str:
        if number == 3:
            raise BrokenPromiseError("three")
        if number == 4:
            raise ValueError("four")
        return f"{rng.random() < 2}"

    return trial


def test_results_are_added_up_and_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "RESULTS", tmp_path)
    monkeypatch.setattr(campaign, "rows", lambda: {"odd": Row("X", "nothing", 9, odd)})
    assert campaign.main(["odd", "--count", "2"]) == 0
    assert campaign.main(["odd", "--count", "6"]) == 1
    found = json.loads((tmp_path / "odd.json").read_text())
    assert (found["tried"], found["held"], found["kinds"]) == (6, 4, {"True": 4, "broken": 2})
    assert [f["trial"] for f in found["failures"]] == [3, 4]
    assert "ValueError at test_reliability.py" in found["failures"][1]["fault"]
    campaign.main(["odd", "--count", "2", "--fresh"])
    assert json.loads((tmp_path / "odd.json").read_text())["tried"] == 2


def test_what_an_earlier_version_broke_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = "a"
    monkeypatch.setattr(campaign, "RESULTS", tmp_path)
    monkeypatch.setattr(campaign, "rows", lambda: {"odd": Row("X", "nothing", 9, odd)})
    monkeypatch.setattr(campaign, "package_at", lambda commit: commit)
    monkeypatch.setattr(campaign.record, "protocol", lambda seed: {"git": version, "seed": seed})
    monkeypatch.setattr(campaign.subprocess, "run", None)
    monkeypatch.setattr(
        campaign, "package_at", lambda commit: {"HEAD": version}.get(commit, commit)
    )
    assert campaign.main(["odd", "--count", "5"]) == 1

    def mended(folder: Path) -> Trial:
        def trial(rng: random.Random, number: int) -> str:
            return "mended" if number == 3 else odd(folder)(rng, number)

        return trial

    version = "b"
    monkeypatch.setattr(campaign, "rows", lambda: {"odd": Row("X", "nothing", 9, mended)})
    assert campaign.main(["odd", "--count", "7", "--add"]) == 1
    found = json.loads((tmp_path / "odd.json").read_text())
    assert (found["tried"], found["held"]) == (7, 6)
    assert found["kinds"] == {"True": 5, "broken": 1, "mended": 1}
    assert [f["trial"] for f in found["failures"]] == [4]
    assert [f["trial"] for f in found["mended"]] == [3]
    assert table.commits(found) == "a (5), b (2)"
    campaign.main(["odd", "--count", "1"])
    found = json.loads((tmp_path / "odd.json").read_text())
    assert found["tried"] == 7, "of this version, with those that were added"
    version = "c"
    campaign.main(["odd", "--count", "1"])
    assert json.loads((tmp_path / "odd.json").read_text())["tried"] == 1


def test_one_trial_can_be_run_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(campaign, "rows", lambda: {"odd": Row("X", "nothing", 9, odd)})
    assert campaign.main(["odd", "--trial", "2"]) == 0
    assert campaign.main(["odd", "--trial", "3"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "X odd, trial 3: three"
    with pytest.raises(SystemExit):
        campaign.main(["--trial", "3"])


def test_fuzzing_tells_typed_errors_from_others(tmp_path: Path) -> None:
    def target(data: bytes, place: Path) -> object:
        if data == b"typed":
            raise DataError("no")
        if data == b"slow":
            end = time.process_time() + 1.2
            while time.process_time() < end:
                pass
        return 1 / len(data)

    tried = fuzz.Tried(target, tmp_path, tmp_path / "report.json")
    for data in (b"typed", b"x", b"", b"", b"slow"):
        tried(data)
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["tried"], found["refused"]) == (5, 1)
    first, second = (failure["fault"] for failure in found["failures"])
    assert first.startswith("ZeroDivisionError at test_reliability.py")
    assert second.startswith("took 1.")


def test_every_fuzzed_door_takes_what_it_begins_with(tmp_path: Path) -> None:
    assert (*fuzz.targets(),) == fuzz.NAMES
    for name, (inputs, target) in fuzz.targets().items():
        for number, data in enumerate(inputs):
            place = tmp_path / f"{name}{number}"
            place.mkdir()
            odd = name == "yaml" and number >= 4
            with contextlib.suppress(*(GancompressError,) * odd):
                target(data, place)


def test_the_documents_table_is_that_of_the_results() -> None:
    """Make it again after a campaign: python -m benchmarks.reliability.table."""
    assert table.markdown(table.results(), table.fuzzed()) in table.DOCUMENT.read_text(
        encoding="utf-8"
    )
