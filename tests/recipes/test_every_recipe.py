"""Every shipped recipe, as one types it: validate, dry run and five steps on each of its tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from gancompress.cli import main
from gancompress.commands.recipes import shipped
from gancompress.recipes.load import load_recipe

NETS = """
from torch import nn
from tests.recipes.test_task_recipes import Patch, Speaker, Translator
from tests.training.nets import TinyDiscriminator, TinyGenerator

noise, judge, translate, speak = TinyGenerator, TinyDiscriminator, Translator, Speaker

def upscale():
    return Translator(4)

def pair_judge():
    return Patch(2)

def patch_judge():
    return Patch(1)

def ear():
    return Patch(1, nn.Conv1d)
"""
FEW = (
    "--max-steps", "5", "batch=4", "sample_every=0", "checkpoint_every=0", "log_every=1",
    "precision=float32", "channels_last=false",
)  # fmt: skip
# Layers of one size of map that these networks have: kernels and relations compare samples there.
PAIRS = "[[norm, norm], [norm1, norm1]]"
WITH_PAIRS = ("kernel_alignment", "feature", "relational", "latent_direction")


@dataclass(frozen=True)
class Ground:
    """What a recipe is tried on: words of the command line, and a target that it can reach."""

    words: tuple[str, ...]
    target: str = "params=1.6x"
    more: tuple[str, ...] = ()


SPEECH = "{name: vocoder, n_fft: 256, hop: 64, n_mels: 20, high: 4000.0}"
MEL = "[{name: mel, weight: 45.0, rate: 8000, n_fft: 256, hop: 64, n_mels: 20}]"
NOISE = Ground(("every_nets:noise", "--discriminator", "every_nets:judge", "--data", "classes"))
GROUNDS = {
    "paired": Ground(
        ("every_nets:translate", "--discriminator", "every_nets:pair_judge", "--input",
         "x=npy(x.npy)", "--data", "y.npz"),
    ),
    "restore": Ground(
        ("every_nets:upscale", "--discriminator", "every_nets:patch_judge", "--data", "grey"),
        more=("task.patch=16",),
    ),
    "vocoder": Ground(
        ("every_nets:speak", "--discriminator", "every_nets:ear", "--data", "wav", "--length",
         "512"),
        more=(f"task={SPEECH}", f"losses={MEL}"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks and data of every task, a few samples each."""
    here = tmp_path_factory.mktemp("every")
    (here / "every_nets.py").write_text(NETS)
    rng = np.random.default_rng(0)
    for label in range(3):
        (here / f"classes/{label}").mkdir(parents=True)
        for i in range(8):
            x = rng.integers(0, 85, (8, 8)).astype(np.uint8) + 85 * label
            Image.fromarray(x).save(here / f"classes/{label}/{i}.png")
    for folder in ("grey", "wav"):
        (here / folder).mkdir()
    x = rng.integers(0, 256, (16, 1, 16, 16)).astype(np.uint8)
    np.save(here / "x.npy", x.astype(np.float32) / 127.5 - 1)
    np.savez(here / "y.npz", x=255 - x)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32)).astype(np.uint8)).save(
            here / f"grey/{i}.png"
        )
        tone = np.sin(2 * np.pi * (200 + 50 * i) * np.arange(1024) / 8000) * 20000
        wavfile.write(here / f"wav/{i}.wav", 8000, tone.astype(np.int16))
    return here


@pytest.fixture
def said(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Type a command in that folder; its JSON, and what it says where it fails."""
    monkeypatch.chdir(place)
    for name in ("SAMPLES", "OUTPUTS", "FEW"):
        monkeypatch.setattr(f"gancompress.commands.closing_quality.{name}", 8)

    def type_(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        code = main([*words, "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    return type_


def ground_of(name: str) -> Ground:
    task = load_recipe(name).task
    return NOISE if task is None else GROUNDS[task.name]


def adapted_words(name: str) -> list[str]:
    """What of a recipe depends on the networks that it is tried on."""
    recipe, ground = load_recipe(name), ground_of(name)
    words = list(ground.more)
    if recipe.target is not None:
        words.append(f"target={ground.target}")
    if ground is NOISE:
        words += [
            f"distill.{i}.pairs={PAIRS}"
            for i, entry in enumerate(recipe.distill) if entry.name in WITH_PAIRS
        ]  # fmt: skip
        # Typed distillers are not adapted, and no norm of these networks is conditional.
        words += [
            f"distill.{i}.variant=plain"
            for i, entry in enumerate(recipe.distill) if entry.name == "class_aware"
        ]  # fmt: skip
    if name == "torch-pruning":  # it finds no maps of its own in a network that small
        words.append(f"distill.0.pairs={PAIRS}")
    if name == "gan-compression":
        words.append("companions.0.trials=4")
    return words


# One always; the others in full runs of the tests (test_field_recipes.py has them without flags).
QUICK = {"anytime"}
EVERY = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(shipped())]


def test_every_task_that_a_recipe_names_has_a_ground_here() -> None:
    named = {recipe.task.name for n in shipped() if (recipe := load_recipe(n)).task is not None}
    assert named == set(GROUNDS)


@pytest.mark.parametrize("name", EVERY)
def test_it_is_valid_foretold_and_runs(
    name: str, said: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    recipe, ground, words = load_recipe(name), ground_of(name), adapted_words(name)
    assert main(["validate", name, *words]) == 0
    line = [recipe.kind, *ground.words, "--recipe", name]
    foretold = said(*line, "--dry-run", *words)
    few = [w for w in FEW if recipe.steps or not w.startswith(("--max", "5"))]
    summary = said(*line, "--out", str(tmp_path / "run"), *few, *words)
    assert summary["steps"] == (5 if recipe.steps else 0)
    if recipe.target is None:
        assert foretold["params"] > 0
        return
    assert foretold["reachable"]
    assert summary["verify"]["passed"]
    size = summary["size"]
    assert size["small"]["params"] * 1.6 <= size["teacher"]["params"]


MINE = """
name: mine
kind: prune
summary: nothing but a file of my own
target: params=1.5x
importance: {name: blend, parts: [magnitude, fisher]}
schedule: {name: linear, start: 0.0, end: 0.5}
shrink: {events: [0.5], reconstruct: true, hold: true, samples: 16}
distill: [{name: pixel, weight: 5.0}]
generator_optim: {name: adamw, lr: 1.0e-4, weight_decay: 0.01}
steps: 4
finetune_steps: 1
batch: 4
sample_every: 0
checkpoint_every: 0
"""


def test_a_recipe_of_ones_own_is_one_file(
    said: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    assert main(["validate", str(file)]) == 0
    line = ["prune", *NOISE.words, "--recipe", str(file)]
    assert said(*line, "--dry-run")["recipe"] == "mine"
    summary = said(*line, "--out", str(tmp_path / "run"))
    assert summary["verify"]["passed"]
    assert (summary["recipe"], summary["steps"]) == ("mine", 5)
    assert summary["taken"]["classes"] or summary["notes"]


@pytest.mark.slow
def test_layers_that_are_to_stay_whole(said: Callable[..., dict[str, Any]]) -> None:
    line = ["prune", *NOISE.words, "--recipe", "magnitude", "target=params=1.3x", "--dry-run"]
    pixel = "distill=[pixel]"
    groups = said(*line, pixel)["groups"]
    spared = next(n for n, g in groups.items() if g["after"] < g["before"])
    kept = said(*line, pixel, f"exclude=[{spared}]")["groups"]
    assert kept[spared]["after"] == kept[spared]["before"]
    only = said(*line, pixel, f"include=[{spared}]", "target=params=1.1x")["groups"]
    assert all((g["after"] < g["before"]) == (n == spared) for n, g in only.items())
    assert main([*line, pixel, "exclude=[nowhere]"]) == 2
    assert main(["validate", "narrow", "exclude=[norm]"]) == 2
