"""Each kind of bad input, with the error that a user sees: what failed, the value, what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import gancompress as gc
from gancompress.cli import main
from gancompress.errors import ConfigError

NETS = '''
import torch
from torch import nn

class Generator(nn.Module):
    """Latents (n, 8) and labels (n,) of 4 classes to images (n, 1, 8, 8)."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.embed = nn.Embedding(4, 8)
        self.first = nn.Linear(8, 8 * 4)
        self.middle = nn.Conv2d(8, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.last = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, z, y):
        h = self.first(z + self.embed(y)).view(z.shape[0], -1, 2, 2)
        h = nn.functional.interpolate(h, scale_factor=2)
        h = self.norm(self.middle(h)).relu()
        h = nn.functional.interpolate(h, scale_factor=2)
        return self.last(h).tanh() * self.scale

class Discriminator(nn.Module):
    def __init__(self, poison=False):
        super().__init__()
        self.poison = poison
        self.body = nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 1, 2))

    def forward(self, x):
        logits = self.body(x).flatten(1)
        return logits * float("nan") if self.poison and self.training else logits

class Broken(Generator):
    def forward(self, z, y):
        return self.last(super().forward(z, y))

def generator():
    torch.manual_seed(0)
    return Generator()

def too_wide_range():
    return Generator(scale=255.0)

def broken():
    return Broken()

def flat():
    return nn.Sequential(nn.Linear(8, 8))

def judge():
    return Discriminator()

def poisoned():
    return Discriminator(poison=True)

def wrong_judge():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 1))
'''
INPUT = ["--input", "z=normal(8)", "--input", "y=labels(4)"]
RECIPE = """
name: tiny
kind: prune
summary: two steps
target: params=1.3x
steps: 2
batch: 4
distill: [{name: pixel, weight: 1.0}]
"""
SHORT = ["--recipe", "tiny.yaml"]
OWN = ["prune", "bad_nets:generator", *INPUT, "--discriminator", "bad_nets:judge", *SHORT]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bad_nets.py").write_text(NETS)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    monkeypatch.delitem(__import__("sys").modules, "bad_nets", raising=False)
    return tmp_path


def images(file: Path, *, side: int = 8, classes: int = 4, dtype: str = "uint8") -> list[str]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, side, side)).astype(dtype)
    np.savez(file, x=x, y=np.arange(40) % classes)
    return ["--data", str(file)]


def fails(
    words: list[str], code: int, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Run ``words``: exit code, every part of the message, nothing on stdout, no traceback."""
    found = main(words)
    shown = capsys.readouterr()
    text = " ".join(shown.err.split())
    assert found == code, text
    for part in parts:
        assert part in text
    assert shown.out == ""
    assert "Traceback" not in text
    assert not Path("runs").exists()


def test_wrong_class_count(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OWN, *images(here / "d.npz", classes=3)]
    fails(words, 3, ["labels of 4 classes; the data has 3", "y=labels"], capsys)


def test_class_count_beyond_the_embedding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "bad_nets:generator", "--input", "z=normal(8)", "--input", "y=labels(900)"]
    fails([*words, *SHORT], 3, ["forward fails", "y=labels(900)", "--input"], capsys)


def test_wrong_z_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "bad_nets:generator", "--input", "z=normal(9)", "--input", "y=labels(4)"]
    fails([*words, *SHORT], 3, ["forward fails on inputs (2, 9)", "bad_nets.py:18"], capsys)


def test_wrong_image_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OWN, *images(here / "d.npz", side=16)]
    fails(words, 3, ["makes images (1, 8, 8)", "the data has (1, 16, 16)"], capsys)


def test_wrong_image_range_of_the_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OWN, *images(here / "d.npz", dtype="float32")]
    fails(words, 3, ["uint8", "found float32 in [0, 255]"], capsys)


def test_wrong_image_range_of_the_generator(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [OWN[0], "bad_nets:too_wide_range", *OWN[2:], *images(here / "d.npz")]
    fails(words, 3, ["the generator's images lie in [", "expected [-1, 1]", "tanh"], capsys)


def test_infeasible_target(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OWN, "--target", "params=5000x", *images(here / "d.npz")]
    fails(words, 8, ["out of reach", "smallest network has", "Held up by"], capsys)


def test_infeasible_target_is_said_by_the_dry_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails([*OWN, "--target", "params=5000x", "--dry-run"], 8, ["out of reach"], capsys)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--recipe", "pcpd"], ["no recipe 'pcpd'", "Did you mean 'ppcd'"]),
        (["round_too=8"], ["unknown key 'round_too'", "Did you mean 'round_to'"]),
        (["ema.dcay=0.9"], ["unknown key 'ema.dcay'", "Did you mean 'decay'"]),
        (["relaxation.name=stee"], ["no relaxation named 'stee'", "Did you mean 'ste'"]),
        (["--recipe", "mine.yaml"], ["cannot read recipe 'mine.yaml'"]),
    ],
)
def test_unknown_recipe_or_key(
    words: list[str], parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails([*OWN, *words], 2, parts, capsys)


def test_unknown_layer_pattern(here: Path) -> None:
    import bad_nets

    example = (torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(
        ConfigError, match="'midle' matches no prunable layer. Did you mean 'middle'"
    ):
        gc.wrap(bad_nets.generator(), example=example, exclude=("midle",))


@pytest.mark.parametrize("cut", [0, 60, -1])
def test_truncated_weights(cut: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import bad_nets

    save_file(bad_nets.generator().state_dict(), "g.safetensors")
    Path("g.safetensors").write_bytes(Path("g.safetensors").read_bytes()[:cut])
    fails([*OWN, "--weights", "g.safetensors"], 4, ["g.safetensors is damaged, truncated"], capsys)


def test_weights_of_another_network(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"first.weight": torch.zeros(3, 3)}, "g.safetensors")
    parts = ["is not made for this Generator", "missing", "first.weight: file (3, 3), network"]
    fails([*OWN, "--weights", "g.safetensors"], 4, parts, capsys)


def test_existing_output_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "precious.txt").write_text("mine")
    fails([*OWN, "--out", "taken"], 2, ["taken exists and is not overwritten", "--resume"], capsys)
    assert [file.name for file in (here / "taken").iterdir()] == ["precious.txt"]


def test_output_folder_below_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    fails([*OWN, "--out", "file/run"], 6, ["cannot make the run folder", "--out"], capsys)


def test_missing_extra(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    words = ["export", "bad_nets:generator", *INPUT]
    fails(words, 2, ["onnxruntime is not installed", "pip install 'gancompress[onnx]'"], capsys)


def test_forward_that_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("prune", "inspect", "sample", "bench"):
        words = [verb, "bad_nets:broken", *INPUT, *(SHORT if verb == "prune" else [])]
        fails(words, 3, ["forward fails", "bad_nets.py:36", "to have 12 channels"], capsys)


def test_forward_that_makes_no_image(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", "bad_nets:flat", "--input", "z=normal(8)"]
    fails(words, 3, ["a picture needs images (n, c, h, w); the output (40, 8)"], capsys)


def test_discriminator_that_does_not_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OWN, "--discriminator", "bad_nets:wrong_judge", *images(here / "d.npz")]
    fails(words, 3, ["the discriminator's forward fails on generated images (2, 1, 8, 8)"], capsys)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--input", "z=nromal(8)"], ["no kind 'nromal'", "Did you mean 'normal'"]),
        (["--input", "z"], ["not NAME=KIND(SIZES)"]),
        ([], ["--input 'z=normal(128)'", "sample_inputs"]),
    ],
)
def test_inputs_that_cannot_be_drawn(
    words: list[str], parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(["sample", "bad_nets:generator", *words], 2, parts, capsys)


def test_nan_loss(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OWN, "--discriminator", "bad_nets:poisoned", *images(here / "d.npz"), "--out", "run"]
    words.append("steps=30")
    fails(words, 7, ["not finite"], capsys)
    assert not (here / "run" / "model").exists()
