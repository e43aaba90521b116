"""Targets of time on the command line: told before the first step, measured at the end, refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gancompress.cli import main
from gancompress.commands import dry_run
from gancompress.commands.run import PREDICTION
from gancompress.wrapping import targets as fitting
from tests.timing.test_predicted import made_up

NETS = """
from torch import nn

def generator():
    return nn.Sequential(
        nn.Unflatten(1, (8, 1, 1)), nn.ConvTranspose2d(8, 32, 4), nn.ReLU(),
        nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 1, 3, 1, 1), nn.Tanh(),
    )
"""
RECIPE = """
name: tiny
kind: prune
summary: a short run
steps: 4
finetune_steps: 1
batch: 4
log_every: 1
precision: float32
distill: [{name: pixel, weight: 1.0}]
adversarial: {weight: 0}
"""
WORDS = ["prune", "speedy_nets:generator", "--input", "z=normal(8)", "-r", "tiny.yaml"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, on a machine whose time is the square root of the MACs."""
    (tmp_path / "speedy_nets.py").write_text(NETS)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "speedy_nets", raising=False)
    monkeypatch.setenv("GANCOMPRESS_CACHE", str(tmp_path / "cache"))

    def timed(networks: Any, example: Any, traced: int, setting: Any, **more: Any) -> Any:
        import gancompress as gc

        return [gc.trace(n, *example[0]).cost().macs ** 0.5 for n in networks]

    def table(graph: Any, setting: Any, unit: int, ragged: float) -> Any:
        return made_up(graph, setting.batch)

    monkeypatch.setattr(fitting, "table_of", table)
    monkeypatch.setattr(fitting, "stair_unit", lambda graph, setting: (1, 1.0))
    monkeypatch.setattr(fitting, "seconds_of", timed)
    monkeypatch.setattr(dry_run, "seconds_of", timed)
    return tmp_path


def told(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    found = main(words)
    shown = capsys.readouterr()
    assert found == code, shown.err
    return json.loads(shown.out) if code == 0 else shown.err


def test_both_targets_hold_and_the_time_stands_beside_the_prediction(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goals = ["--target", "params=1.5x", "--target", "latency=1.6x@cpu,batch=2"]
    plan = told([*WORDS, *goals, "--dry-run", "--json"], capsys)
    assert plan["target"] == "params=1.5x; latency=1.6x@cpu,batch=2"
    assert plan["speed"][0]["setting"] == "cpu,batch=2,engine=eager"
    assert plan["speed"][0]["asked"] == pytest.approx(1.6)

    summary = told([*WORDS, *goals, "--out", "run", "--json"], capsys)
    assert summary["compression"] >= 1.5
    speed = summary["speed"][0]
    assert speed["times"] == pytest.approx(speed["before"] / speed["after"])
    assert speed["times"] >= 1.45
    foretold = json.loads((here / "run" / PREDICTION).read_text())["speeds"][0]
    assert speed["predicted"] == pytest.approx(foretold["before"] / foretold["after"])
    assert summary["off_target"] <= 0.1


def test_other_runs_tell_the_time_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "target=params=2x", "--out", "run"]) == 0
    shown = capsys.readouterr()
    assert "ms a call (cpu,batch=1,engine=eager)" in shown.err
    assert "predicted" in shown.out


REFUSED = {
    "latency=2x@cuda:7": (2, "no device cuda:7 here"),
    "latency=2x@engine=tensorrt": (2, "engine=tensorrt is not one of"),
    "latency=1000x@cpu": (8, "out of reach"),
}


@pytest.mark.parametrize("target", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(
    target: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, words = REFUSED[target]
    assert words in told([*WORDS, "--target", target, "--out", "run"], capsys, code)
    assert not (here / "run").exists()


def test_two_bounds_for_one_number_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told([*WORDS, "--target", "macs=2x", "--target", "macs=4x"], capsys, 2)
    assert "contradict each other" in said
    assert "macs=4x holds both" in said
