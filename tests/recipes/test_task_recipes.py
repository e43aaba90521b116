"""Recipes that name a task: valid, predictable, and they train what the task is about."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gancompress.cli import main
from gancompress.commands.dry_run import predict
from gancompress.commands.recipes import shipped
from gancompress.commands.resolve.subject import Subject
from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.models.presets import edges32_generator
from gancompress.recipes.load import load_recipe
from gancompress.recipes.networks import REFERENCES, discriminators_of
from gancompress.tasks import TASKS, Sources
from gancompress.training.checkpoint import latest_checkpoint
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.run_files import CHECKPOINTS

QUIET = ("batch=4", "sample_every=0", "checkpoint_every=0", "log_every=1", "precision=float32")


class Translator(nn.Module):
    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        self.scale = scale
        self.first, self.body = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale > 1:
            x = nn.functional.interpolate(x, scale_factor=self.scale)
        return torch.tanh(self.last(torch.relu(self.body(torch.relu(self.first(x))))))


class Speaker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(20, 16, 3, padding=1)
        self.up = nn.ConvTranspose1d(16, 16, 64, 64)
        self.last = nn.Conv1d(16, 1, 3, padding=1)

    def forward(self, mel: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.relu(self.up(torch.relu(self.first(mel))))))


class Patch(nn.Module):
    def __init__(self, channels: int = 1, conv: type[nn.Module] = nn.Conv2d) -> None:
        super().__init__()
        self.first, self.last = conv(channels, 8, 4, 2, 1), conv(8, 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


class Pairs:
    """Random pictures (n, 1, 16, 16); each one's target is its negative."""

    n_classes = None

    def __init__(self) -> None:
        self.x = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1

    def __len__(self) -> int:
        return len(self.x)

    def pairs(self, indices: Tensor) -> tuple[Tensor, Tensor, None]:
        return self.x[indices], -self.x[indices], None


class Sound:
    """Pieces (n, 1, 512) of sines at 8 kHz."""

    rate, length, n_classes = 8000, 512, None

    def __len__(self) -> int:
        return 20

    def batch(self, indices: Tensor) -> tuple[Tensor, None]:
        pitch = 200 + 20 * indices.float()
        return 0.5 * torch.sin(2 * torch.pi * pitch[:, None, None] * torch.arange(512) / 8000), None


def pictures() -> ArrayDataset:
    rng = torch.Generator().manual_seed(1)
    return ArrayDataset(torch.randint(0, 256, (24, 1, 32, 32), generator=rng).byte())


@dataclass(frozen=True)
class Bench:
    """Tiny networks and data for one recipe, and what of it depends on their sizes."""

    generator: Callable[[], nn.Module]
    discriminator: Callable[[], nn.Module]
    dataset: Callable[[], Any]
    spec: str
    words: tuple[str, ...] = ()


SPEECH = "{name: vocoder, n_fft: 256, hop: 64, n_mels: 20, high: 4000.0}"
MEL = "[{name: mel, weight: 45.0, rate: 8000, n_fft: 256, hop: 64, n_mels: 20}]"
BENCHES = {
    "edges-teacher": Bench(Translator, lambda: Patch(2), Pairs, "x=uniform(1,16,16)"),
    "ppcd-translation": Bench(Translator, lambda: Patch(2), Pairs, "x=uniform(1,16,16)"),
    "ppcd-restore": Bench(
        lambda: Translator(4), Patch, pictures, "x=uniform(1,8,8)", ("task.patch=32",)
    ),
    "ppcd-vocoder": Bench(
        Speaker,
        lambda: Patch(1, nn.Conv1d),
        Sound,
        "mel=normal(20,8)",
        (f"task={SPEECH}", f"losses={MEL}"),
    ),
}


def test_every_shipped_recipe_with_a_task_is_tried_here() -> None:
    assert {name for name in shipped() if load_recipe(name).task is not None} == set(BENCHES)


@pytest.mark.parametrize("name", BENCHES)
def test_it_is_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", name]) == 0
    assert f"{name}: valid" in capsys.readouterr().out


@pytest.mark.parametrize("name", [n for n in BENCHES if n != "edges-teacher"])
def test_its_size_is_known_beforehand(name: str) -> None:
    bench = BENCHES[name]
    sampler = InputSampler.parse([bench.spec])
    generator = bench.generator()
    found = predict(Subject({"model": "tiny"}, generator, sampler), load_recipe(name, bench.words))
    times = float(str(load_recipe(name).target).removeprefix("macs=").removesuffix("x"))
    assert found.cost_before.macs / found.cost_after.macs >= times


@pytest.mark.parametrize("name", BENCHES)
def test_five_steps_of_it(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bench, kind = BENCHES[name], load_recipe(name).kind
    length = ("steps=4", "finetune_steps=1") if kind == "prune" else ("steps=5",)
    recipe = load_recipe(name, [*length, *QUIET, *bench.words])
    task = TASKS.bind(recipe.task)(Sources(dataset=bench.dataset()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(
            recipe,
            generator=bench.generator(),
            discriminator=bench.discriminator(),
            task=task,
            out=tmp_path / "run",
            screen=Silent(),
        )
    last = result.history[-1]
    assert last["step"] == 5
    assert {"d_loss", "g_loss", *(entry.name for entry in recipe.losses)} <= set(last)
    assert ("distill" in last) is bool(recipe.distill)
    assert kind == "train" or (result.verified is not None and result.verified["passed"])


# -- from the command line -------------------------------------------------------------------------
@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Files of 24 pairs of 32 pixels: the input says which row it is, and so does the output."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (24, 1, 32, 32)).astype(np.uint8)
    x[:, 0, 0, 0] = np.arange(24)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "y.npz", x=255 - x)
    return tmp_path


def test_rows_of_two_arrays_belong_together(pairs: Path) -> None:
    """Row 10 is not the third, though "10" comes after "1" among names."""
    sampler = InputSampler.parse([f"x=images({pairs / 'x.npz'})"])
    data = ArrayDataset(torch.from_numpy(np.load(pairs / "y.npz")["x"]))
    task = TASKS.bind("paired")(Sources(sampler=sampler, dataset=data))
    rows = [row for batch in task.held_out(24, 5) for row in batch.inputs[0][:, 0, 0, 0].tolist()]
    for batch in task.held_out(24, 5):
        assert batch.wanted is not None
        torch.testing.assert_close(batch.wanted, -batch.inputs[0])
    assert rows
    (stored,) = sampler.at(torch.arange(24), torch.Generator())
    expected = torch.arange(24) / 127.5 - 1
    torch.testing.assert_close(stored[:, 0, 0, 0], expected)


def test_a_teacher_is_trained_and_pruned_with_the_discriminator_that_it_was_trained_with(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ["--input", f"x=images({pairs / 'x.npz'})", "--data", str(pairs / "y.npz")]
    few = ["--max-steps", "5", *QUIET]
    teacher, student = pairs / "teacher", pairs / "student"
    words = ["train", "--recipe", "edges-teacher", *sources, "--out", str(teacher), *few]
    assert main(words) == 0
    assert "D(cat(condition, image))" in capsys.readouterr().err
    found, _ = latest_checkpoint(teacher / CHECKPOINTS)
    assert found is not None
    # Inputs, data, network and discriminator are those of the run; nothing else is typed.
    prune = ["prune", str(teacher), "--recipe", "ppcd-translation"]
    assert main([*prune, "--dry-run", "--json"]) == 0
    macs = json.loads(capsys.readouterr().out)["macs"]
    assert macs["after"] * 8 <= macs["before"]
    assert main([*prune, "--out", str(student), *few]) == 0
    assert "no discriminator" not in capsys.readouterr().err
    summary = json.loads((student / "summary.json").read_text())
    assert summary["verify"]["passed"]
    assert summary["size"]["small"]["macs"] * 8 <= summary["size"]["teacher"]["macs"]


# -- networks --------------------------------------------------------------------------------------
def test_discriminators_are_known_by_the_generators_builder() -> None:
    for generator, *rest in REFERENCES.values():
        assert discriminators_of(generator) == tuple(rest)
        assert rest
    assert discriminators_of("os:system") == ()
    assert sum(p.numel() for p in edges32_generator().parameters()) == 1_074_369
