"""One run, many sizes: what is trained, kept, taken out at a size, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.cli import main
from gancompress.errors import CheckpointError, ConfigError, TargetError
from gancompress.recipes.load import load_recipe
from gancompress.saving.any_size import load_size
from gancompress.surgery.reconstruction.statistics import measure_norms
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.training.nets import TinyGenerator, images, networks
from tests.training.test_companions import QUIET, Stopping, events

FEW = (
    *QUIET, "steps=12", "finetune_steps=0", "target=params=3x",
    "distill=[pixel]", "distill_share=1.0", "companions.0.until=0.75", "schedule.start=0.8",
    "schedule.end=0.9",
)  # fmt: skip


def example() -> tuple[Tensor, ...]:
    return networks()[0].sample_inputs(2, torch.Generator().manual_seed(0))


def calls(n: int = 4) -> list[Any]:
    rng = torch.Generator().manual_seed(3)
    return [(networks()[0].sample_inputs(32, rng), {}) for _ in range(n)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sizes") / "run"
    generator, discriminator = networks()
    result = train(
        load_recipe("anytime", FEW), generator=generator, discriminator=discriminator,
        dataset=images(), out=out, screen=Silent(),
    )  # fmt: skip
    assert result.verified is not None
    assert result.verified["passed"]
    whole = sum(p.numel() for p in networks()[0].parameters())
    assert sum(p.numel() for p in result.generator.parameters()) <= whole / 3
    return out


def test_every_size_comes_out_verified_and_smaller_ones_are_part_of_larger_ones(
    finished: Path,
) -> None:
    kept = set(gc.load(TinyGenerator, finished / "nested").state_dict()["conv1.bias"].tolist())
    sizes = []
    for target in ("params=1.01x", "params=1.5x", "params=2x", "params=3x"):
        found = load_size(TinyGenerator, finished, target, example())
        assert found.verification.passed
        assert found.after.params == sum(p.numel() for p in found.generator.parameters())
        sizes.append(found.after.params)
        assert found.after.params <= found.before.params / float(target[7:-1])
        # A bias belongs to its channel: those of a smaller network are among those of a larger one.
        own = set(found.generator.state_dict()["conv1.bias"].tolist())
        assert own <= kept
        kept = own
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_the_smallest_is_what_the_run_delivers(finished: Path) -> None:
    delivered = gc.load(TinyGenerator, finished / "model")
    found = load_size(TinyGenerator, finished, "params=3x", example())
    shapes = {n: t.shape for n, t in found.generator.state_dict().items()}
    assert {n: t.shape for n, t in delivered.state_dict().items()} == shapes


def test_statistics_are_those_of_the_size_once_measured(finished: Path) -> None:
    stale = load_size(TinyGenerator, finished, "params=2x", example()).generator
    found = load_size(TinyGenerator, finished, "params=2x", example(), inputs=calls())
    assert found.norms == ("norm", "norm1")
    fresh = found.generator
    seen: list[Tensor] = []
    hook = fresh.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for inputs, _ in calls():
        fresh(*inputs)
    hook.remove()
    x = torch.cat(seen).double()
    assert torch.allclose(fresh.norm.running_mean.double(), x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(fresh.norm.running_var.double(), x.var((0, 2, 3)), rtol=1e-2)
    assert not torch.equal(fresh.norm.running_mean, stale.norm.running_mean)
    assert not fresh.training
    assert not fresh.norm._forward_pre_hooks


def test_a_norm_that_never_runs_keeps_its_statistics() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    net = Idle().eval()
    assert measure_norms(net, [((torch.randn(8, 3) + 5,), {})]) == ["used"]
    assert float(net.used.running_mean.mean()) > 4
    assert not net.idle.running_mean.any()


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("params=6x", TargetError, r"narrower than what was trained: .*\(params=3"),
        ("latency=2x", ConfigError, "a size is of params or macs"),
        ("params=900x", TargetError, "out of reach"),
        ("parms=2x", ConfigError, "parms"),
    ],
)
def test_sizes_that_there_are_not(
    finished: Path, target: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        load_size(TinyGenerator, finished, target, example())


def test_other_folders_are_told_from_it(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds one size only"):
        load_size(TinyGenerator, tmp_path, "params=2x", example())
    gc.save(tmp_path / "nested", networks()[0])
    with pytest.raises(CheckpointError, match="no network of nested widths"):
        load_size(TinyGenerator, tmp_path, "params=2x", example())
    shutil.copytree(finished / "nested", tmp_path / "b" / "nested")
    config = tmp_path / "b" / "nested" / "config.json"
    config.write_text(config.read_text().replace('"least"', '"most"'))
    with pytest.raises(CheckpointError):
        load_size(TinyGenerator, tmp_path / "b", "params=2x", example())


@pytest.mark.slow
def test_a_run_that_was_cut_off_keeps_the_same(finished: Path, tmp_path: Path) -> None:
    for resume in (None, "auto"):
        generator, discriminator = networks()
        data = Stopping(10) if resume is None else images()
        train(
            load_recipe("anytime", FEW), generator=generator, discriminator=discriminator,
            dataset=data, out=tmp_path / "run", resume=resume, screen=Silent(),
        )  # fmt: skip
    one, two = (
        load_size(TinyGenerator, run, "params=1.5x", example()).generator.state_dict()
        for run in (finished, tmp_path / "run")
    )
    assert all(torch.equal(t, two[n]) for n, t in one.items())


def test_widths_are_drawn_together_and_the_ends_by_turns(finished: Path) -> None:
    (told,) = events(finished, "nested")
    assert told["least"].keys() == told["widths"].keys()
    assert all(told["least"][n] <= w for n, w in told["widths"].items())


@pytest.mark.slow
def test_every_verb_takes_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sized_nets.py").write_text(
        "from tests.training.nets import TinyGenerator as net\n"
    )
    words = ["prune", "sized_nets:net", "--recipe", "anytime", "--out", "run", "--json"]
    assert main([*words, *FEW, "batch=8", "discriminator.policy=fresh"]) == 0
    capsys.readouterr()
    line = ["export", "run@params=1.5x", "--model", "sized_nets:net", "--to", "safetensors"]
    assert main([*line, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["files"][0]["format"] == "safetensors"
    assert "size params=1.5x" in captured.err
    for size, code, said in (
        ("params=4x", 8, "narrower than what was trained"), ("params=0", 2, "params=0"),
    ):  # fmt: skip
        assert main(["export", f"run@{size}", *line[2:], "--out", "x.safetensors"]) == code
        assert said in capsys.readouterr().err
    assert main(["export", "sized_nets:net@params=2x", "--to", "safetensors"]) == 2
