"""Every task that ships: batches, splits, what the discriminator is shown, and a run each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.data.order import stream
from gancompress.errors import ConfigError, DataError
from gancompress.recipes.schema import Recipe
from gancompress.tasks import TASKS, Draw, Sources
from gancompress.tasks.restore import blurred
from gancompress.tasks.split import Split
from gancompress.training.log import Silent
from gancompress.training.loop import train


def draw(number: int = 0, n: int = 4) -> Draw:
    return Draw(n, number, stream(0, "test", number))


class Pairs:
    """x (n, 1, 8, 8) dark, its target the negative."""

    n_classes = None

    def __len__(self) -> int:
        return 40

    def pairs(self, indices: Tensor) -> tuple[Tensor, Tensor, None]:
        x = (indices.float() / 40).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        return x, -x, None


class Sound:
    """Pieces (n, 1, 512) of sines at 8 kHz."""

    rate, length, n_classes = 8000, 512, None

    def __len__(self) -> int:
        return 20

    def batch(self, indices: Tensor) -> tuple[Tensor, None]:
        time = torch.arange(512) / 8000
        pitch = 200 + 20 * indices.float()
        return torch.sin(2 * torch.pi * pitch[:, None] * time)[:, None] * 0.5, None


def pictures(n: int = 24, side: int = 16) -> ArrayDataset:
    rng = torch.Generator().manual_seed(1)
    return ArrayDataset(torch.randint(0, 256, (n, 1, side, side), generator=rng).byte())


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(self.body(x)))


class Upscaler(Translator):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.interpolate(x, scale_factor=2))


class Speaker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(20, 12, 3, padding=1)
        self.up = nn.ConvTranspose1d(12, 8, 64, 64)
        self.last = nn.Conv1d(8, 1, 3, padding=1)

    def forward(self, mel: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.relu(self.up(torch.relu(self.first(mel))))))


class Patch(nn.Module):
    """D(cat(input, output)) where ``channels`` is 2, else D(output)."""

    def __init__(self, channels: int = 1, conv: type[nn.Module] = nn.Conv2d) -> None:
        super().__init__()
        self.first, self.last = conv(channels, 8, 4, 2, 1), conv(8, 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


def plan(**changes: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "tiny",
        "kind": "prune",
        "summary": "for tests",
        "target": "params=2x",
        "distill": [{"name": "pixel"}],
        "shrink": {"events": [0.5]},
        "steps": 6,
        "finetune_steps": 2,
        "batch": 4,
        "sample_every": 4,
        "log_every": 1,
    }
    return Recipe.model_validate(base | changes)


def test_pairs_stay_pairs_and_held_out_ones_never_train() -> None:
    task = TASKS.bind("paired")(Sources(dataset=Pairs(), seed=3))
    seen: set[float] = set()
    for number in range(30):
        batch, real = task.batch(draw(number)), task.real(draw(number))
        assert torch.equal(batch.wanted, -batch.inputs[0])
        assert torch.equal(real.output, batch.wanted)
        assert torch.equal(real.condition, batch.inputs[0])
        seen |= set(batch.inputs[0][:, 0, 0, 0].tolist())
    held = {x for b in task.held_out(100, 3) for x in b.inputs[0][:, 0, 0, 0].tolist()}
    assert len(held) == 2
    assert not held & seen
    assert len(seen) == 38


@pytest.mark.parametrize(("length", "share", "held"), [(40, 0.05, 2), (3, 0.05, 1), (10, 0.0, 0)])
def test_split_is_a_partition(length: int, share: float, held: int) -> None:
    split = Split(length, 5, share)
    assert split.held == held
    rest = length - held
    seen = [int(i) for k in range(rest) for i in split.training(draw(k, 1))]
    assert len(set(seen)) == rest
    if held:
        assert not set(seen) & set(split.held_out(100).tolist())
    assert torch.equal(split.held_out(5), Split(length, 5, share).held_out(5))


def test_split_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="held_out is 1"):
        Split(10, 0, 1.0)
    with pytest.raises(DataError, match="needs two"):
        Split(1, 0)


def test_restore_spoils_as_said_and_repeats_itself() -> None:
    task = TASKS.bind({"name": "restore", "scale": 2, "noise": 0.1, "patch": 8, "unit": True})(
        Sources(dataset=pictures())
    )
    first, again = task.batch(draw(1)), task.batch(draw(1))
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert torch.equal(first.wanted, again.wanted)
    assert first.inputs[0].shape == (4, 1, 4, 4)
    assert first.wanted.shape == (4, 1, 8, 8)
    assert first.wanted.min() >= 0
    assert first.wanted.max() <= 1
    assert task.values == (0.0, 1.0)


def test_blur_keeps_the_mean_and_flattens() -> None:
    x = torch.zeros(1, 1, 31, 31)
    x[..., 15, 15] = 1
    y = blurred(x, 2.0)
    assert float(y.sum()) == pytest.approx(1.0, abs=1e-4)
    # A Gaussian of sigma 2 has 1 / (2 pi 4) at its centre.
    assert float(y.max()) == pytest.approx(1 / (8 * torch.pi), rel=0.02)


@pytest.mark.parametrize(
    ("spec", "sources", "message"),
    [
        ("paired", Sources(), "--data"),
        ("paired", Sources(dataset=pictures()), "what belongs to the data"),
        ("restore", Sources(dataset=pictures()), "spoils nothing"),
        ({"name": "restore", "scale": 3}, Sources(dataset=pictures()), "no multiple of scale 3"),
        ({"name": "restore", "scale": 2, "patch": 3}, Sources(dataset=pictures()), "patch 3"),
        ({"name": "restore", "scale": 2, "patch": 64}, Sources(dataset=pictures()), "smaller than"),
        ("unpaired", Sources(dataset=pictures()), "--input"),
        ("vocoder", Sources(dataset=pictures()), "needs sound"),
        ({"name": "vocoder", "hop": 100}, Sources(dataset=Sound()), "no multiple of hop"),
        ({"name": "vocoder", "hop": 64, "n_fft": 256}, Sources(dataset=Sound()), "bands up to"),
        ("teacher", Sources(), "--input"),
        ({"name": "paired", "conditon": True}, Sources(dataset=Pairs()), "condition"),
    ],
)
def test_what_a_task_cannot_do_is_said(spec: Any, sources: Sources, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        TASKS.bind(spec)(sources)


def sampler_of(folder: Path, side: int = 8) -> InputSampler:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for i in range(12):
        np.save(folder / f"{i:02d}.npy", rng.standard_normal((1, side, side)).astype("f4"))
    return InputSampler.parse([f"x=npy({folder})"])


def test_files_of_an_input_are_read_by_place(tmp_path: Path) -> None:
    sampler = sampler_of(tmp_path / "x")
    assert sampler.files[:2] == ("00", "01")
    (x,) = sampler.at(torch.tensor([3, 0]), stream(0))
    assert torch.equal(x[0], torch.from_numpy(np.load(tmp_path / "x" / "03.npy")))


NETWORKS: dict[str, tuple[Any, Any, Any]] = {
    "paired": (Translator, lambda: Patch(2), lambda d: Sources(dataset=Pairs())),
    "restore": (Upscaler, Patch, lambda d: Sources(dataset=pictures())),
    "unpaired": (
        Translator,
        Patch,
        lambda d: Sources(sampler_of(d / "a"), pictures(side=8), reverse=Translator()),
    ),
    "vocoder": (Speaker, lambda: Patch(1, nn.Conv1d), lambda d: Sources(dataset=Sound())),
    "teacher": (Translator, Patch, lambda d: Sources(sampler_of(d / "t"))),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "restore": {"scale": 2},
    "unpaired": {"cycle": 1.0, "identity": 0.5},
    "vocoder": {"hop": 64, "n_fft": 256, "n_mels": 20, "high": 4000.0},
}
LOSSES: dict[str, Any] = {
    "paired": [{"name": "l1", "weight": 10.0}],
    "restore": [{"name": "charbonnier"}],
    "vocoder": [{"name": "mel", "rate": 8000, "n_fft": 256, "hop": 64, "n_mels": 20}],
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_each_task_prunes_its_generator(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    generator, discriminator, sources = NETWORKS[name]
    spec = {"name": name, **OPTIONS.get(name, {})}
    task = TASKS.bind(spec)(sources(tmp_path))
    out = tmp_path / "run"
    result = train(
        plan(losses=LOSSES.get(name, [])),
        generator=generator(),
        discriminator=discriminator(),
        task=task,
        out=out,
        screen=Silent(),
    )
    assert result.exit_code == 0
    assert result.verified is not None
    assert result.verified["passed"]
    assert result.history[-1]["d_loss"] > 0
    terms = {e["name"] for e in LOSSES.get(name, [])} | set(
        k for k in OPTIONS.get(name, {}) if k in ("cycle", "identity")
    )
    assert terms <= set(result.history[-1])
    small = gc.load(generator, out / "model")
    batch = next(iter(task.held_out(2, 2)))
    torch.testing.assert_close(small(*batch.inputs), result.generator(*batch.inputs))


def test_wanted_outputs_of_another_size_are_refused_before_step_0() -> None:
    task = TASKS.bind("paired")(Sources(dataset=Pairs()))
    with pytest.raises(DataError, match=r"makes \(1, 16, 16\).*\(1, 8, 8\)"):
        train(plan(), generator=Upscaler(), task=task, screen=Silent())


def test_losses_without_anything_wanted_are_refused_before_step_0(tmp_path: Path) -> None:
    task = TASKS.bind("teacher")(Sources(sampler_of(tmp_path)))
    with pytest.raises(ConfigError, match="wants no particular output"):
        train(plan(losses=["l1"]), generator=Translator(), task=task, screen=Silent())
