"""``gancompress export``: several files at once, what is printed, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gancompress.cli import main

NETS = '''
import torch
from torch import nn

class Net(nn.Module):
    """Pictures (n, 3, h, w) to the same, with noise of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        h = self.norm(self.first(x)).relu()
        return self.last(h).tanh()

class Noisy(Net):
    def forward(self, x):
        return super().forward(x) + torch.randn_like(x)

class Fails(Net):
    def forward(self, x):
        return self.last(x)
'''
INPUT = ["--input", "x=uniform(3,8,8)"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "deploy_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("deploy_nets", None)
    return tmp_path


def test_several_formats_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "deploy_nets:Net", *INPUT, "--to", "torch.export,safetensors"]
    assert main([*words, "--dynamic", "x=0,2,3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [f["file"] for f in shown["files"]] == ["net.pt2", "net.safetensors"]
    assert "1.5 times" in shown["files"][0]["checked"]
    assert shown["file"] == "net.pt2"
    assert shown["max_error"] <= 1e-4
    assert main([*words, "--out", "b"]) == 0
    said = capsys.readouterr().out
    assert "wrote b.pt2: torch.export, x -> output; largest difference" in said
    assert "wrote b.safetensors: safetensors, read back bit for bit" in said
    assert main(words) == 2
    assert "net.pt2 exists" in capsys.readouterr().err


def test_refusals(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["export", "--to", "torch.export", *INPUT]
    for words, code, text in (
        (
            [*export, "deploy_nets:Noisy"],
            2,
            "draws randn_like noise at deploy_nets.py:19 in forward",
        ),
        ([*export, "deploy_nets:Fails"], 3, "deploy_nets.py:23 in forward"),
        ([*export, "deploy_nets:Net", "--dynamic", "y=0"], 2, "no input 'y'"),
        ([*export, "deploy_nets:Net", "--to", "tflite"], 2, "no format 'tflite'"),
        ([*export, "deploy_nets:Net", "--int8", "--no-fold"], 2, "--int8"),
        ([*export, "deploy_nets:Net", "--tolerance", "-1"], 8, "No file was written"),
    ):
        assert main(words) == code
        said = capsys.readouterr().err
        assert text in said
        assert len(said.split("error: ")[1].strip().splitlines()) == 2  # and the exit code
    assert not list(here.glob("*.pt2"))


def test_int8_is_measured_and_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchao", reason="the extra gancompress[int8] is not installed")
    words = ["export", "deploy_nets:Net", *INPUT, "--to", "torch.export", "--int8"]
    assert main([*words, "--calibrate", "12", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["int8"]
    assert (row["layers"], row["left"]) == (2, 0)
    assert row["snr_db"] > 20
    assert main([*words, "--out", "b.pt2", "--tolerance", "1e-9"]) == 8
    assert not (here / "b.pt2").exists()
