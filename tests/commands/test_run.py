"""What a run says, keeps and refuses: participants, pictures, resuming, folders of all kinds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import gancompress as gc
from gancompress.cli import main
from gancompress.errors import ConfigError
from gancompress.recipes.load import load_recipe

NETS = '''
import torch
from torch import nn

def body(i, o):
    return nn.Sequential(nn.Conv2d(i, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, o, 3, padding=1))

class Bright(nn.Module):
    """Images in [0, 255]."""

    def __init__(self):
        super().__init__()
        self.first, self.body = nn.Linear(6, 6 * 64), body(6, 3)

    def sample_inputs(self, n, rng):
        return (torch.randn(n, 6, generator=rng),)

    def forward(self, z):
        return (self.body(self.first(z).view(len(z), 6, 8, 8)) * 40).sigmoid() * 255

class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = body(3, 3)

    def forward(self, x):
        return self.body(x).tanh()

class Named(nn.Module):
    """Keyword-only argument, several outputs."""

    def __init__(self):
        super().__init__()
        self.first, self.body = nn.Linear(6, 6 * 64), body(6, 3)

    def forward(self, z, *, psi):
        h = self.first(z * psi).view(len(z), 6, 8, 8)
        return {"features": h.mean((2, 3)), "image": self.body(h).tanh()}

class D(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 1, 2), nn.Flatten())

    def forward(self, x, slope=0.2):
        assert slope == 0.2
        return self.net(x)

class Sigmoid(D):
    def forward(self, x):
        return super().forward(x).sigmoid()
'''
RECIPE = """
name: tiny
kind: prune
summary: a few steps
target: params=1.5x
steps: 6
finetune_steps: 2
batch: 4
sample_every: 2
precision: float32
distill: [{name: pixel, weight: 1.0}]
"""
SHORT = ["-r", "tiny.yaml", "--max-steps", "4"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "some_nets.py").write_text(NETS)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "photos").mkdir()
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "some_nets", raising=False)
    return tmp_path


def said(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    found = main(words)
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).split())
    assert found == code, text
    return text


def test_images_of_another_range_are_shown_at_the_end_as_while_training(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(["prune", "some_nets:Bright", *SHORT, "--out", "r"], capsys)
    assert "no picture" not in text
    for name in ("before_after.png", "samples/step_000004.png"):
        pixels = np.asarray(Image.open(here / "r" / name).convert("L"))
        assert (pixels < 40).any()
        assert (pixels > 215).any()
    said(["sample", "some_nets:Bright", "--out", "b.png", "--n", "10"], capsys)
    # The steps that were really done, for people who repeat the run without the flag.
    config = yaml.safe_load((here / "r/config.yaml").read_text())
    assert (config["steps"], config["finetune_steps"]) == (3, 1)
    assert json.loads((here / "r/env.json").read_text())["gancompress"] == gc.__version__

    text = said(["report", "r"], capsys)
    page = (here / "r/report.html").read_text()
    for word in (
        *("latency", "Target params=1.5x", "Verification passed", "Notes"),
        *("no --data: the teacher", "distillers alone teach", "to teacher: L1"),
    ):
        assert word in page
    assert "min-width" not in page

    # The model folder on its own, copied out of the run, is what gc.save writes.
    import shutil

    shutil.copytree(here / "r/model", here / "small")
    for verb in (["bench", "small", "--batch", "1"], ["sample", "small", "--out", "s.png"]):
        text = said(verb, capsys, code=2)
        assert "--model package.module:Bright" in text
        said([*verb, "--model", "some_nets:Bright"], capsys)
    text = said(["prune", "small", "--model", "some_nets:Bright", *SHORT], capsys, code=2)
    assert "small holds a generator that has been cut already" in text


def test_a_saved_network_is_pruned_and_resumed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import some_nets

    gc.save("whole", some_nets.Bright())
    words = ["prune", "whole", "--model", "some_nets:Bright", *SHORT]
    said([*words, "--out", "r"], capsys)
    first = (here / "r/model/model.safetensors").read_bytes()
    (here / "r/summary.json").unlink()
    said(["prune", "--resume", "r", "--model", "some_nets:Bright"], capsys)
    assert (here / "r/model/model.safetensors").read_bytes() == first


def test_pictures_as_input_and_a_discriminator_with_an_option(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["prune", "some_nets:Translator", "--data", "photos", *SHORT]
    noise = [*own, "--input", "x=normal(3,8,8)"]
    text = said(noise, capsys, code=2)
    assert "'x' is noise, normal(3,8,8)" in text
    assert "images(FOLDER)" in text
    own += ["--input", "x=images(photos)"]
    text = said([*own, "--out", "a"], capsys)
    assert "the images of --data are not read: there is no discriminator" in text
    assert "6 images (not read)" in text
    text = said([*own, "--discriminator", "some_nets:D", "--out", "b"], capsys)
    assert "called as D(image) (slope keeps its default" in text
    assert "not read" not in text
    text = said(
        [*own, "--discriminator", "some_nets:D", "--discriminator-call", "label"], capsys, code=3
    )
    assert "called with 'label', and there is none" in text
    text = said([*own, "--discriminator-call", "image"], capsys, code=2)
    assert "--discriminator-call without --discriminator" in text


def test_several_discriminators_each_with_its_call_and_weights(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import safetensors.torch
    import some_nets

    safetensors.torch.save_file(some_nets.D().state_dict(), "d.safetensors")
    own = ["prune", "some_nets:Bright", *SHORT]
    both = [*own, "--discriminator", "some_nets:D", "--discriminator", "some_nets:Sigmoid"]
    weights = ["--discriminator-weights", "d.safetensors"]
    calls = ["--discriminator-call", "x=image", "--discriminator-call", "image"]
    text = said([*both, *weights, *calls, "--out", "a"], capsys)
    assert "called as D(x=image); Sigmoid(image)" in text
    first = (here / "a/model/model.safetensors").read_bytes()
    (here / "a/summary.json").unlink()
    again = ["--discriminator", "some_nets:D", "--discriminator", "some_nets:Sigmoid"]
    said(["prune", "--resume", "a", "--model", "some_nets:Bright", *again], capsys)
    assert (here / "a/model/model.safetensors").read_bytes() == first
    text = said([*both, *weights * 3], capsys, code=2)
    assert "2 discriminators and 3 times --discriminator-weights" in text


def test_a_fresh_discriminator_and_what_goes_with_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["prune", "some_nets:Bright", *SHORT, "discriminator.policy=fresh"]
    text = said([*own, "regularisers=[{name: r1, weight: 5, every: 2}]", "--out", "a"], capsys)
    assert "discriminator.policy fresh: one of our own, 4 layers" in text
    assert "no discriminator" not in text
    text = said([*own, "feature_matching.weight=2", "--out", "b"], capsys, code=2)
    assert "task noise wants no particular output" in text
    assert not (here / "b" / "ckpt").exists()


def test_a_sigmoid_is_said_before_step_0(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["prune", "some_nets:Bright", *SHORT]
    both = [*own, "--discriminator"]
    text = said([*both, "some_nets:Sigmoid", "--out", "a"], capsys)
    told = text.index("Sigmoid ends in a sigmoid, and adversarial.loss hinge reads logits")
    assert told < text.index("step 3: cut to")
    text = said([*both, "some_nets:Sigmoid", "adversarial.loss=bce", "--out", "b"], capsys)
    assert "ends in a sigmoid" not in text
    text = said([*both, "some_nets:D", "adversarial.loss=bce", "--out", "c"], capsys, code=2)
    assert "adversarial.loss=nonsaturating" in text
    assert not (here / "c").exists()


def test_names_and_outputs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["--input", "psi=constant(0.7,1)", "--input", "z=normal(6)"]
    own = ["prune", "some_nets:Named", *inputs, *SHORT]
    text = said(own, capsys, code=3)
    assert "features (2, 6), image (2, 3, 8, 8)" in text
    assert "--output" in text
    assert not (here / "runs").exists()
    said([*own, "--output", "image", "--out", "r"], capsys)
    assert (here / "r/before_after.png").is_file()
    said(["sample", "r", "--model", "some_nets:Named", "--out", "n.png"], capsys)
    (here / "r/summary.json").unlink()
    said(["prune", "--resume", "r", "--model", "some_nets:Named"], capsys)


def test_a_bare_resume_auto_never_starts_another_network(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(["prune", "some_nets:Bright", *SHORT, "--discriminator", "some_nets:D"], capsys)
    run = next((here / "runs").iterdir())
    (run / "summary.json").unlink()
    text = said(["prune", "--resume", "auto"], capsys, code=2)
    assert "gancompress prune --resume runs/0001-tiny-bright --model some_nets:Bright" in text
    assert "--discriminator some_nets:D" in text
    assert len(list((here / "runs").iterdir())) == 1


@pytest.mark.parametrize("name", ["netG.pth", "w.safetensors", "deep/er/G.pt"])
def test_a_file_of_weights_is_no_model(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(["prune", name], capsys, code=2)
    assert f"--weights {name}" in text
    assert "there is no file" in text
    (here / name).parent.mkdir(parents=True, exist_ok=True)
    (here / name).write_bytes(b"x")
    text = said(["bench", name], capsys, code=2)
    assert "is a file of weights" in text
    assert "there is no file" not in text


def test_who_needs_a_discriminator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)["recipes"]}
    assert rows["fashion-teacher"]["needs_discriminator"]
    assert rows["scratch"]["needs_discriminator"]
    assert not rows["ppcd"]["needs_discriminator"]
    assert rows["ppcd"]["discriminator"]


def test_an_unreachable_target_advises_what_can_help(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["prune", "some_nets:Bright", "--target", "params=9999x", *SHORT]
    text = said(own, capsys, code=8)
    assert "min_channels" not in text
    assert "round_to" not in text
    text = said([*own, "min_channels=3", "round_to=2"], capsys, code=8)
    assert "lower min_channels=3" in text
    assert "lower round_to=2" in text


def test_max_steps_is_no_target_of_its_own() -> None:
    with pytest.raises(ConfigError):
        load_recipe("ppcd", ["max_steps=3"])
