"""Tasks as users type them: pairs, two domains, restoration and sound, to the last figure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from gancompress.cli import main

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, up=1):
        super().__init__()
        self.up = up
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x):
        if self.up > 1:
            x = nn.functional.interpolate(x, scale_factor=self.up)
        return self.b(self.a(x).relu()).tanh()

class Voice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.u = nn.Conv1d(20, 12, 3, padding=1), nn.ConvTranspose1d(12, 1, 64, 64)

    def forward(self, mel):
        return self.u(self.a(mel).relu()).tanh()

def net():
    torch.manual_seed(0)
    return Net()

def twice():
    torch.manual_seed(0)
    return Net(2)

def voice():
    torch.manual_seed(0)
    return Voice()
"""

SHORT = [
    "target=params=1.5x", "batch=2", "steps=3", "finetune_steps=1", "shrink.events=[]",
    "sample_every=2", "augment=[]", "distill=[{name: pixel}]", "precision=float32",
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for name in ("ab", "a", "b", "wav"):
        (tmp_path / name).mkdir()
    for i in range(6):
        x = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.concatenate([x, 255 - x], 1)).save(tmp_path / f"ab/{i}.png")
        Image.fromarray(x).save(tmp_path / f"a/{i}.png")
        Image.fromarray(255 - x).save(tmp_path / f"b/other{i}.png")
        tone = np.sin(2 * np.pi * (200 + 50 * i) * np.arange(1024) / 8000) * 20000
        wavfile.write(tmp_path / f"wav/{i}.wav", 8000, tone.astype(np.int16))
    (tmp_path / "task_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "task_nets", None)
    monkeypatch.delitem(sys.modules, "task_nets")
    return tmp_path


def prune(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = main(["prune", *words, *SHORT, "--out", "run", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def test_pairs_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = prune(capsys, "task_nets:net", "--data", "ab", "--ab", "left", "losses=[l1]")
    quality = found["quality"]
    assert set(quality["student"]) == {"n", "to_teacher", "to_wanted", "worst"}
    assert set(quality["teacher"]) == {"n", "to_wanted"}
    with Image.open("run/before_after.png") as picture:
        assert picture.width > 4 * 16
    assert "name: paired" in Path("run/config.yaml").read_text()

    # The run knows where its inputs come from.
    assert main(["eval", "run", "--model", "task_nets:net", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["to_wanted"]["l1"] == pytest.approx(quality["student"]["to_wanted"]["l1"])
    capsys.readouterr()
    words = ["sample", "run", "--model", "task_nets:net", "--compare", "--out", "s.png", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == "held out"
    with Image.open("s.png") as picture:  # input, wanted, teacher and student of one pair
        assert picture.width > 4 * 64
    with Image.open("run/samples/step_000002.png") as picture:
        assert picture.width > 3 * 64


def test_two_domains(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = prune(
        capsys, "task_nets:net", "--input", "x=images(a)", "--data", "b",
        "task={name: unpaired, cycle: 1.0}", "--reverse", "task_nets:net",
    )  # fmt: skip
    assert main(["eval", "run", "--model", "task_nets:net", "--json"]) == 0  # asks for no way back
    assert "to_wanted" not in found["quality"]["student"]
    assert found["quality"]["student"]["to_teacher"]["psnr"] > 0


def test_equal_names_make_pairs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b").rename(here / "old")
    (here / "b").mkdir()
    for i in range(6):
        (here / f"old/other{i}.png").rename(here / f"b/{i}.png")
    words = ["prune", "task_nets:net", "--input", "x=images(a)", "--data", "b", *SHORT]
    assert main([*words, "--dry-run"]) == 0
    assert "task paired" in capsys.readouterr().err


def test_super_resolution(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = prune(
        capsys, "task_nets:twice", "--data", "a", "--task", "restore", "task.scale=2",
        "losses=[charbonnier]",
    )  # fmt: skip
    assert found["quality"]["student"]["to_wanted"]["ssim"] <= 1
    assert main(["eval", "run", "--model", "task_nets:twice", "--data", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 6
    # Pairs as they are, of another scale than the network's.
    words = [
        "prune",
        "task_nets:twice",
        "--input",
        "x=images(a)",
        "--data",
        "a",
        "--task",
        "restore",
    ]
    assert main([*words, "losses=[l1]", *SHORT, "--out", "other"]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "2 times as high as its inputs, and those wanted are 1 times" in said
    assert "Set task.scale=2" in said
    assert not Path("other").exists()


def test_sound(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("soundfile")
    found = prune(
        capsys, "task_nets:voice", "--data", "wav", "--task", "vocoder", "task.hop=64",
        "task.n_fft=256", "task.n_mels=20", "task.high=4000",
        "losses=[{name: mel, rate: 8000, n_fft: 256, hop: 64, n_mels: 20}]",
    )  # fmt: skip
    assert set(found["quality"]["student"]["to_wanted"]) == {"l1", "log_mel", "stft"}
    for name in ("0_student", "worst-1_teacher"):
        rate, samples = wavfile.read(f"run/sounds/{name}.wav")
        assert (rate, len(samples)) == (8000, 1024)
    assert main(["sample", "run", "--model", "task_nets:voice", "--out", "heard.png"]) == 0
    assert wavfile.read("heard_0_student.wav")[0] == 8000
    assert Path("heard.png").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--data", "wav", "--size", "32"], 2, "holds sound, which --size"),
        (["--data", "a", "--length", "10"], 2, "holds pictures, which --length"),
        (["--size", "8"], 2, "give --data"),
        (["--data", "ab", "--ab", "middle"], 2, "left, right"),
        (["--data", "ab", "--ab", "left", "--values", "0"], 2, "two numbers"),
        (["--data", "b", "--task", "pared"], 2, "Did you mean 'paired'"),
        (["--data", "ab", "--ab", "left", "--size", "16x8"], 3, "16"),
    ],
)
def test_bad_words(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    got = main(["prune", "task_nets:net", *words, *SHORT, "--out", "run"])
    said = capsys.readouterr().err
    assert (got, message in said) == (code, True), said
    assert not (here / "run").exists()
