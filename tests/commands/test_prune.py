"""Whole runs of a user's own generator from the command line: files, streams, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gancompress as gc
from gancompress.cli import main

NETS = '''
import torch
from torch import nn

class Generator(nn.Module):
    """Latents (n, 8) and labels (n,) of 4 classes to images (n, 1, 8, 8)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 8)
        self.first = nn.Linear(8, 48 * 4)
        self.middle = nn.Conv2d(48, 64, 3, padding=1)
        self.norm = nn.BatchNorm2d(64)
        self.last = nn.Conv2d(64, 1, 3, padding=1)

    def sample_inputs(self, n, rng):
        return torch.randn(n, 8, generator=rng), torch.randint(4, (n,), generator=rng)

    @property
    def n_classes(self):
        return 4

    def forward(self, z, y):
        h = self.first(z + self.embed(y)).view(z.shape[0], -1, 2, 2)
        h = nn.functional.interpolate(h, scale_factor=2)
        h = self.norm(self.middle(h)).relu()
        h = nn.functional.interpolate(h, scale_factor=2)
        return self.last(h).tanh()

class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 1, 2))

    def forward(self, x):
        return self.body(x).flatten(1)

def generator():
    torch.manual_seed(0)
    return Generator()

def judge():
    torch.manual_seed(1)
    return Discriminator()

class Literal(nn.Module):
    """Holds the size of its first features as a number."""

    def __init__(self):
        super().__init__()
        self.first, self.up = nn.Linear(8, 24 * 4), nn.ConvTranspose2d(24, 12, 4, 2, 1)
        self.last = nn.ConvTranspose2d(12, 1, 4, 2, 1)

    def sample_inputs(self, n, rng):
        return (torch.randn(n, 8, generator=rng),)

    def forward(self, z):
        return self.last(self.up(self.first(z).view(-1, 24, 2, 2)).relu()).tanh()

def literal():
    torch.manual_seed(3)
    return Literal()

def vocoder():
    torch.manual_seed(2)
    first, up = nn.Conv1d(8, 24, 3, 1, 1), nn.ConvTranspose1d(24, 12, 4, 2, 1)
    return nn.Sequential(first, nn.LeakyReLU(), up, nn.LeakyReLU(), nn.Conv1d(12, 1, 3, 1, 1))
'''
RECIPE = """
name: tiny
kind: prune
summary: a few steps
target: params=2x
steps: 12
finetune_steps: 4
batch: 4
log_every: 2
checkpoint_every: 4
sample_every: 8
precision: float32
shrink: {events: [0.5]}
distill: [{name: pixel, weight: 1.0}]
"""
WORDS = ["prune", "own_nets:generator", "--discriminator", "own_nets:judge", "-r", "tiny.yaml"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_nets.py").write_text(NETS)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 8, 8)).astype("uint8")
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(40) % 4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return tmp_path


def result(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = main([*words, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def test_a_vocoder_is_pruned_by_a_recipe_for_images(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", "own_nets:vocoder", "--input", "x=normal(8,16)", "-r", "ppcd"]
    code = main([*words, "steps=4", "finetune_steps=2", "batch=4", "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "augment translation, cutout is left out" in shown.err
    assert "no picture: " in shown.err
    summary = json.loads(shown.out)
    assert summary["picture"] is None
    assert abs(summary["off_target"]) <= 0.05  # a channel of so small a network is 2 % of it
    missed = f"{summary['off_target']:+.1%} off the target params=5.2x: whole channels "
    assert (missed in shown.err) == (abs(summary["off_target"]) > 0.02)
    assert summary["verify"]["passed"]


def test_a_literal_size_goes_in_the_graph_form(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["prune", "own_nets:literal", "-r", "tiny.yaml", "--target", "params=4x"]
    before = result(["inspect", "own_nets:literal"], capsys)["layers"][0]
    assert (before["channels"], before["prunable"]) == (24 * 4, 0)
    summary = result([*tiny, "--form", "graph", "--out", "g"], capsys)
    assert summary["compression"] >= 4 * 0.95
    assert summary["verify"]["passed"]
    assert json.loads((here / "g" / "subject.json").read_text())["form"] == "graph"
    made = result(["inspect", "g", "--model", "own_nets:literal"], capsys)
    assert made["layers"][0]["channels"] < 24 * 4

    (here / "g" / "summary.json").unlink()
    first = digest(here / "g")
    assert main(["prune", "--resume", "g", "--model", "own_nets:literal"]) == 0
    assert digest(here / "g") == first
    assert main([*tiny, "--form", "grph"]) == 2
    assert "form='grph' is not one of module, graph" in capsys.readouterr().err


def digest(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_prune_leaves_a_verified_smaller_model(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = result([*WORDS, "--data", "d.npz"], capsys)
    assert abs(summary["off_target"]) <= 0.02
    assert summary["verify"]["passed"]
    assert summary["verify"]["max_error"] <= 1e-9
    assert summary["steps"] == 16
    run = Path(summary["run"])
    assert run == Path("runs/0001-tiny-generator")
    assert json.loads((run / "summary.json").read_text())["compression"] == summary["compression"]
    for name in (
        "before_after.png",
        "config.yaml",
        "subject.json",
        "env.json",
        "metrics.jsonl",
        "log.txt",
        "plots/losses.svg",
    ):
        assert (run / name).is_file()

    import own_nets

    small = gc.load(own_nets.generator, run / "model")
    assert type(small) is own_nets.Generator
    assert sum(p.numel() for p in small.parameters()) == summary["size"]["small"]["params"]
    assert small(torch.zeros(3, 8), torch.zeros(3, dtype=torch.int64)).shape == (3, 1, 8, 8)


def test_class_names_are_shown_and_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, name in enumerate(["10", "9", "heron", "tench"]):
        name = f"bird {name}" if i < 2 else f"bird {60 * i}"
        (here / "pictures" / name).mkdir(parents=True)
        for k in range(8):
            picture = Image.new("LA", (8, 8), (30 * i + k, 255))
            picture.save(here / "pictures" / name / f"{k}.png")
    (here / "pictures" / "__MACOSX").mkdir()
    capsys.readouterr()
    assert main([*WORDS, "--data", "pictures", "--out", "birds"]) == 0
    said = capsys.readouterr().err
    assert "4 classes: 0 bird 9, 1 bird 10, 2 bird 120, 3 bird 180" in said
    assert "labels in their order" in said
    assert "transparency laid over white" in said
    names = ["bird 9", "bird 10", "bird 120", "bird 180"]
    assert json.loads((here / "birds" / "subject.json").read_text())["classes"] == names
    kept = json.loads((here / "birds" / "data.json").read_text())
    assert (kept["classes"], kept["images"], kept["size"]) == (names, 32, [8, 8])


def test_screen_ends_with_table_picture_and_next_command(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(WORDS) == 0
    shown = capsys.readouterr()
    for part in ("before", "after", "parameters", "before_after.png", "gancompress sample runs/"):
        assert part in shown.out
    assert "the teacher's own images are the only source" in shown.err
    assert "plan: " in shown.err
    assert "\x1b[" not in shown.out + shown.err
    assert "step" not in shown.out.replace("16 steps", "")


def test_quiet_is_quiet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--max-steps", "2", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_dry_run_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in here.iterdir() if p.name != "__pycache__")
    plan = result([*WORDS, "--dry-run"], capsys)
    assert plan["reachable"]
    assert abs(plan["off_target"]) <= 0.02
    assert plan["params"]["after"] < plan["params"]["before"]
    assert {"before", "after"} == set(plan["groups"]["middle"] if "middle" in plan["groups"] else
                                      next(iter(plan["groups"].values())))  # fmt: skip
    assert sorted(p.name for p in here.iterdir() if p.name != "__pycache__") == before


def test_verbs_on_the_finished_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--out", "r"]) == 0
    capsys.readouterr()
    own = ["r", "--model", "own_nets:generator"]
    assert result(["bench", *own, "--batch", "1"], capsys)["params"] < 16000
    assert result(["inspect", *own], capsys)["cost"]["params"] < 16000
    assert result(["sample", *own, "--n", "8"], capsys)["n"] == 10
    torch.save(__import__("own_nets").generator().state_dict(), "g.pt")
    pair = ["sample", *own, "--compare", "--weights", "g.pt", "--out", "pair.png", "--n", "10"]
    assert result(pair, capsys)["file"] == "pair.png"
    assert result(["verify", "r"], capsys)["ok"]
    assert result(["compare", "r"], capsys)["runs"][0]["recipe"] == "tiny"
    # The folder names code; nothing of it is imported unless it is typed.
    assert main(["sample", "r", "--out", "x.png"]) == 2
    assert "--model own_nets:generator" in capsys.readouterr().err
    assert main(["sample", *own, "--n", "8"]) == 2
    assert "samples.png exists" in capsys.readouterr().err


def test_samples_are_the_same_bytes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        assert main(["sample", "own_nets:generator", "--out", name, "--seed", "3"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert main(["sample", "own_nets:generator", "--out", "c.png", "--seed", "4"]) == 0
    assert Path("a.png").read_bytes() != Path("c.png").read_bytes()


def test_overrides_reach_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "--seed", "7", "--target", "macs=0.5", "--ema.decay", "0.5", "steps=3"]
    summary = result([*words, "finetune_steps=0", "--out", "r"], capsys)
    config = Path("r/config.yaml").read_text()
    assert "seed: 7" in config
    assert "target: macs=0.5" in config
    assert "decay: 0.5" in config
    assert summary["steps"] == 3
    assert abs(summary["off_target"]) <= 0.02


def test_train_then_distill(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "teach.yaml").write_text(
        "name: teach\nkind: train\nsummary: x\nsteps: 3\nbatch: 4\nadversarial: {loss: hinge}\n"
    )
    own = ["own_nets:generator", "--discriminator", "own_nets:judge", "--data", "d.npz"]
    taught = result(["train", *own, "-r", "teach.yaml", "--out", "t"], capsys)
    assert taught["steps"] == 3
    (here / "half.yaml").write_text(
        "name: half\nkind: distill\nsummary: x\nsteps: 3\nbatch: 4\ntarget: params=2x\n"
        "student: {init: narrow}\ndistill: [{name: pixel}]\n"
    )
    weights = ["--weights", "t/model/model.safetensors"]
    plan = result(["distill", *own, *weights, "-r", "half.yaml", "--dry-run"], capsys)
    made = result(["distill", *own, *weights, "-r", "half.yaml", "--out", "d"], capsys)
    assert made["size"]["small"]["params"] == plan["params"]["after"]


def test_interrupted_run_goes_on_to_the_same_result(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [*WORDS, "steps=40", "--data", "d.npz"]
    assert main([*long, "--out", "whole"]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "gancompress", *long, "batch=4", "--out", "broken"]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while not list(Path("broken").glob("ckpt/step_*")) and time.monotonic() < end:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, told = child.communicate(timeout=300)
    if child.returncode == 0:
        pytest.skip("the run ended before the signal reached it")
    assert child.returncode == 75, told
    assert "--resume broken" in told
    capsys.readouterr()
    again = ["prune", "--resume", "broken", "--model", "own_nets:generator"]
    assert main([*again, "--discriminator", "own_nets:judge"]) == 0
    assert digest(Path("broken")) == digest(Path("whole"))


def test_resume_auto_starts_continues_and_refuses(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--resume", "auto"]) == 0
    assert "nothing to resume: a new run" in capsys.readouterr().err
    assert main([*WORDS, "--resume", "runs/0001-tiny-generator"]) == 2
    assert main([*WORDS[:-2], "--resume", "runs/0001-tiny-generator"]) == 2
    assert "is finished" in capsys.readouterr().err
    assert main(["prune", "--resume", "runs/0001-tiny-generator"]) == 2
    assert "is finished" in capsys.readouterr().err, "before it asks for code"
    assert main(["prune", "--resume", "runs/gone"]) == 2
    assert "no run folder runs/gone" in capsys.readouterr().err
    (here / "runs/0001-tiny-generator/summary.json").unlink()
    assert main(["prune", "--resume", "auto"]) == 2, "the embedded one is not what was meant"
    assert "Type that name" in capsys.readouterr().err
    assert main(["prune", "--resume", "runs/0001-tiny-generator"]) == 2
    assert "prune --resume runs/0001-tiny-generator --model own_nets:" in capsys.readouterr().err
    assert main([*WORDS, "--resume", "auto"]) == 0
    assert "resuming runs/0001-tiny-generator" in capsys.readouterr().err
    assert main([*WORDS, "batch=8", "--out", "runs/0001-tiny-generator", "--resume", "auto"]) == 2


def test_damaged_checkpoints_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--out", "r"]) == 0
    Path("r/summary.json").unlink()
    for file in Path("r/ckpt").glob("*/generator.safetensors"):
        file.write_bytes(file.read_bytes()[:-5])
    capsys.readouterr()
    assert main([*WORDS, "--out", "r", "--resume", "auto"]) == 4
    assert "no good checkpoint left" in capsys.readouterr().err
    weights = Path("r/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["bench", "r", "--model", "own_nets:generator"]) == 4
    assert "damaged" in capsys.readouterr().err


def test_shipped_recipe_is_adapted_aloud(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "own_nets:generator", "-r", "ppcd", "--target", "params=2x", "batch=4"]
    assert main([*words, "--max-steps", "3", "--out", "r"]) == 0
    told = capsys.readouterr().err
    assert "no discriminator: distiller discriminator_features is left out" in told
    assert "distiller attention instead" in told
    config = Path("r/config.yaml").read_text()
    assert "name: attention" in config
    assert "discriminator_features" not in config
    # What the user asks for in so many words is not replaced.
    named = "distill=[{name: discriminator_features}]"
    assert main([*words, named, "--max-steps", "3", "--out", "q"]) == 2
    assert "give one (--discriminator)" in capsys.readouterr().err
