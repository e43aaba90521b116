"""The student that no training made: as a recipe, and as the start of another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gancompress as gc
from gancompress.commands.dry_run import predict
from gancompress.commands.resolve.subject import Subject
from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError
from gancompress.masks.budget import Budget
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator
from gancompress.recipes.load import load_recipe
from gancompress.target import Target
from gancompress.training.allocation import allocate
from gancompress.training.log import Silent
from gancompress.training.loop import train

QUIET = ["sample_every=0", "checkpoint_every=0", "student.samples=24", "target=params=1.6x"]


def biggan() -> BigGANGenerator:
    torch.manual_seed(0)
    config = BigGANConfig.from_dict(BigGANConfig.fashion32().to_dict() | {"ch": 4})
    generator = BigGANGenerator(config)
    with torch.no_grad():  # statistics of its own, as after training
        generator.train()
        for _ in range(5):
            generator(*generator.sample_inputs(8, torch.Generator().manual_seed(1)))
    return generator.eval()


def gap(a: torch.nn.Module, b: torch.nn.Module) -> float:
    inputs = biggan().sample_inputs(32, torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((a(*inputs) - b(*inputs)).square().mean())


def test_the_recipe_needs_no_training_no_data_and_no_discriminator(tmp_path: Path) -> None:
    teacher = biggan()
    run = tmp_path / "run"
    result = train(load_recipe("reconstruct", QUIET), generator=biggan(), out=run, screen=Silent())
    assert result.exit_code == 0
    assert result.history == []
    assert result.verified is not None
    assert result.verified["passed"]
    cost = sum(p.numel() for p in result.generator.parameters())
    assert cost <= sum(p.numel() for p in teacher.parameters()) / 1.6
    again = gc.load(biggan, run / "model").eval()
    assert gap(again, result.generator) == 0.0
    events = (run / "events.jsonl").read_text()
    assert "layers solved for on 24 samples" in events


def test_it_comes_nearer_to_the_teacher_than_the_cut_alone() -> None:
    teacher = biggan()
    result = train(load_recipe("reconstruct", QUIET), generator=biggan(), screen=Silent())
    assert result.plan is not None
    # A random network has little to make up from.
    assert gap(result.generator, teacher) < 0.95 * gap(gc.cut(teacher, result.plan), teacher)


@pytest.mark.slow
def test_it_is_the_same_every_time() -> None:
    one, two = (
        train(load_recipe("reconstruct", QUIET), generator=biggan(), screen=Silent()).generator
        for _ in range(2)
    )
    state = two.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in one.state_dict().items())


def test_another_recipe_starts_from_it() -> None:
    words = ["student={init: narrow, reconstruct: true, samples: 24}", "steps=2", "batch=4"]
    discriminator = BigGANDiscriminator(biggan().config)
    result = train(
        load_recipe("narrow", [*QUIET[:2], "target=params=1.6x", "precision=float32", *words]),
        generator=biggan(),
        discriminator=discriminator,
        screen=Silent(),
    )
    assert len(result.history) == 1
    assert all(torch.isfinite(p).all() for p in result.generator.parameters())


@pytest.mark.slow
def test_the_size_is_known_beforehand() -> None:
    generator = biggan()
    subject = Subject({"model": "biggan"}, generator, InputSampler.of(generator))
    found = predict(subject, load_recipe("reconstruct", QUIET))
    result = train(load_recipe("reconstruct", QUIET), generator=biggan(), screen=Silent())
    assert result.plan is not None
    assert found.after == result.plan.widths
    assert -0.05 < found.off_target <= 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["student.init=scratch"], "student.reconstruct needs a student that was cut"),
        (["student={init: torch-pruning, channels: residual}"], "for student.init narrow"),
        (["student.samples=0"], "greater than or equal to 1"),
        (["student.reconstruct=false"], "steps must be at least 1"),
    ],
)  # fmt: skip
def test_what_would_change_nothing_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_recipe("reconstruct", words)


def test_masks_and_reconstruction_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="kind distill"):
        load_recipe("magnitude", ["student={init: narrow, reconstruct: true}"])


def test_the_cheapest_error_for_the_cost_goes_first() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    graph = gc.trace(net, torch.randn(2, 3))
    budget = Budget(Target.parse("params=1.5x"), graph.cost(), round_to=2)
    worth = {"0": np.arange(8.0) + 1, "1": np.arange(8.0)[::-1] * 1e-3}
    keep = allocate(graph, worth, budget)
    assert len(keep["0"]) == 8
    assert keep["1"] == list(range(len(keep["1"])))
    assert len(keep["1"]) % 2 == 0
    assert graph.cost({n: len(k) for n, k in keep.items()}).params <= budget.goal
