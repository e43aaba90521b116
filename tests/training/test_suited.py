"""Least squares where it suits the network and the run, and the reason where it is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.training import suited as rules
from gancompress.training.log import Silent
from gancompress.training.loop import task_for, train
from gancompress.training.suited import Price, priced, suited
from tests.training.nets import images, networks

QUIET = [
    "batch=4", "steps=3", "finetune_steps=1", "sample_every=0", "checkpoint_every=0",
    "precision=float32", "target=params=1.5x", "augment=[]", "channels_last=false",
    "distill=[{name: pixel, weight: 1.0}]", "score={name: residual, samples: 8}",
    "shrink={events: [0.3], reconstruct: true, samples: 8}",
]  # fmt: skip


def ppcd(*words: str) -> Recipe:
    return load_recipe("ppcd", [*QUIET, *words])


def asked(recipe: Recipe, generator: nn.Module, *, steps: int = 10**6, **more: Any) -> Any:
    task = task_for(recipe, generator, None, None, images())
    return suited(recipe, task, generator, more.get("teacher"), steps)


def test_where_it_suits_the_recipe_stays_what_it_is() -> None:
    recipe = ppcd()
    assert recipe.least_squares == "auto"
    assert asked(recipe, networks()[0]) == (recipe, None)


def test_short_runs_go_without_and_compare_groups_as_ever() -> None:
    made, why = asked(ppcd(), networks()[0], steps=1)
    assert "of what 1 steps do" in why
    assert (made.score, made.allocation, made.importance.options) == (None, None, {})
    assert not made.shrink.reconstruct
    assert made.shrink.events == (0.3,)


def test_what_somebody_asked_for_beside_it_stays() -> None:
    recipe = ppcd("importance=fisher", "allocation=uniform")
    made, _ = asked(recipe, networks()[0], steps=1)
    assert (made.importance, made.allocation) == (recipe.importance, recipe.allocation)


def test_asked_for_always_it_is_never_left_out() -> None:
    recipe = ppcd("least_squares=always")
    assert asked(recipe, networks()[0], steps=1) == (recipe, None)


def test_gates_between_0_and_1_and_other_teachers_are_reasons() -> None:
    generator, _ = networks()
    _, why = asked(ppcd("relaxation=scurve"), generator)
    assert "relaxation scurve" in why
    _, why = asked(ppcd(), generator, teacher=nn.Linear(3, 3))
    assert "the network that the student was made of" in why


def test_too_much_at_once_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "HELD", 1)
    _, why = asked(ppcd(), networks()[0])
    assert "at once" in why


def test_the_price_counts_features_places_and_samples() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(80, 2))
    price = priced(net, [((torch.randn(2, 3, 4, 4),), {})] * 2)
    assert price.sample == 16 * 5 * 27 + 2 * 80
    assert price.layers == 2
    rows = 20_000
    assert price.solving == sum(2 * rows * p**2 + 5 * p**3 for p in (27, 80))
    assert price.held == 12 * (48 + 80)
    assert Price(10.0, 2.0, 0.0, 1).whole(3) == 10 + 2 * (12 + 8)


class Fickle(nn.Module):
    """Runs another operator where its input says so: no two batches can be followed together."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole, self.more = whole, nn.Conv2d(1, 1, 1)

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        made = self.whole(z, y)
        return self.more(made) if float(z.sum()) > 0 else made


def test_a_forward_that_changes_with_its_input_is_a_reason() -> None:
    generator, _ = networks()
    task = task_for(ppcd(), generator, None, None, images())
    _, why = suited(ppcd(), task, Fickle(generator), None, 10**6)
    assert why is not None
    assert "cannot be followed" in why


def test_a_run_says_why_and_goes_on(tmp_path: Path) -> None:
    generator, discriminator = networks()
    result = train(
        ppcd(), generator=generator, discriminator=discriminator, dataset=images(),
        out=tmp_path / "run", screen=Silent(),
    )  # fmt: skip
    assert result.verified is not None
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    told = [e for e in map(json.loads, lines) if e["event"] == "least_squares"]
    assert "least squares is left out: it would cost" in told[0]["text"]
    assert not any(json.loads(line)["event"] == "reconstruct" for line in lines)
