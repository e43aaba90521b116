"""Runs that are stopped while they are set up, and folders of gc.save, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import gancompress as gc
from gancompress.cli import main
from gancompress.commands.run_start import new_folder, unfinished
from gancompress.errors import ConfigError
from gancompress.recipes.load import load_recipe
from gancompress.training.lock import Lock
from gancompress.training.run_files import CONFIG, LOCK, SUBJECT
from tests.training.nets import recipe

RECORD = {"model": "nets:Net", "input": ["z=normal(8)"], "max_steps": 12}

NETS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2))
        )
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "early_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return tmp_path


WORDS = ["prune", "early_nets:Net", "--input", "z=normal(8)", "--target", "params=1.5x"]
WORDS += ["--max-steps", "3", "batch=4", "sample_every=0", "distill=[{name: pixel, weight: 1.0}]"]


@pytest.mark.parametrize("state", ["new", "recipe lost", "empty", "draft", "another recipe"])
def test_a_folder_stopped_in_set_up_is_used_again(here: Path, state: str) -> None:
    out = here / "run"
    if state in ("empty", "draft"):
        out.mkdir()
    else:
        new_folder(out, "x", recipe(seed=3 if state == "another recipe" else 0), RECORD)
    if state == "recipe lost":
        (out / CONFIG).unlink()
        (out / "manifest.json").unlink()
        assert main(["prune", "--resume", str(out), "--model", "early_nets:Net"]) == 2
    if state == "draft":
        (out / f".{SUBJECT}.tmp").write_text("{")
    assert main([*WORDS, "--out", str(out)]) == 0
    assert (out / "model").is_dir()
    assert main(["verify", str(out)]) == 0


def test_a_new_run_that_was_stopped_is_resumed(here: Path) -> None:
    words = ["sample_every=0", "distill=[{name: pixel, weight: 1.0}]", "target=params=1.5x"]
    chosen = load_recipe("ppcd", [*words, "batch=4"])
    record = {"model": "early_nets:Net", "input": ["z=normal(8)"], "max_steps": 3}
    record |= dict.fromkeys(("data", "weights", "init_from", "discriminator"))
    out = new_folder(here / "run", "x", chosen, record)
    assert "--max-steps 3" in (out / CONFIG).read_text()
    assert load_recipe(out / CONFIG) == chosen
    assert main(["prune", "--resume", str(out), "--model", "early_nets:Net"]) == 0
    last = [json.loads(t) for t in (out / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["step"] == 3


def test_what_is_no_run_is_not_cleared(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        new_folder(here / "mine", "x", recipe(), RECORD)
    assert (here / "mine" / "thesis.tex").read_text() == "x"
    out = new_folder(here / "run", "x", recipe(), RECORD)
    lock = Lock(out / LOCK)
    lock.take()
    with pytest.raises(ConfigError, match="in use by process"):
        new_folder(out, "x", recipe(), RECORD)
    lock.release()
    assert (out / CONFIG).is_file()


def test_the_newest_is_by_number(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_folder(None, "x", recipe(), RECORD)]
    (here / "runs" / "9999-x").mkdir()
    made.append(new_folder(None, "x", recipe(), RECORD))
    assert [p.name for p in made] == ["0001-x", "10000-x"]
    assert unfinished(recipe(), RECORD, None) == made[1]


def test_a_saved_generator_is_a_subject(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2))
        )

    masked = gc.wrap(build().eval(), torch.randn(4, 8), target="params=2x")
    masked.advance(1.0)
    gc.save(here / "small", masked.prune())
    assert main(["inspect", "small"]) == 2
    assert "--model package.module:" in capsys.readouterr().err
    words = ["inspect", "small", "--model", "early_nets:Net", "--input", "z=normal(8)", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)
