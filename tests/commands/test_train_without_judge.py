"""``train`` without a discriminator: by losses alone, or refused before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from gancompress.cli import main

NETS = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))
"""

RECIPE = {
    "name": "sharpen", "kind": "train", "summary": "x", "steps": 2, "batch": 2, "sample_every": 0,
    "precision": "float32", "task": {"name": "restore", "blur": 1.0},
    "losses": [{"name": "l1"}], "adversarial": {"weight": 0.0},
}  # fmt: skip


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    (tmp_path / "nets_alone.py").write_text(NETS)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RECIPE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "nets_alone", None)
    monkeypatch.delitem(sys.modules, "nets_alone")
    given = ["train", "--recipe", "mine.yaml", "--model", "nets_alone:net", "--data", "x.npy"]
    return [*given, "--out", "run"]


def test_losses_alone_can_teach(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert Path("run/model").is_dir()
    assert "not read" not in capsys.readouterr().err


def test_without_losses_too_it_is_refused_before_a_folder_is_made(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "losses=[]", "adversarial.weight=1"]) == 2
    assert "needs a discriminator, or losses" in capsys.readouterr().err
    assert not Path("run").exists()


def test_an_unfinished_run_goes_on_by_its_own_verb(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--max-steps", "2"]) == 0
    Path("run/model").rename("elsewhere")
    capsys.readouterr()
    assert main(["sample", "run", "--model", "nets_alone:net"]) == 2
    assert "gancompress train --resume run" in capsys.readouterr().err
