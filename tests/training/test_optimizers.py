"""Optimisers by name: what a recipe says reaches torch, cuts and checkpoints included."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from gancompress.recipes.optimizer_names import OPTIMIZERS
from gancompress.recipes.parts import Optim
from gancompress.training.optimizer_by_name import make_mask_optimizer, make_optimizer
from tests.training.nets import recipe
from tests.training.test_resume import Interrupting, digest, go

SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.1},
    "nadam": {"momentum_decay": 0.01},  # a state of one number
    "sgd": {"momentum": 0.9, "nesterov": True},
    "adagrad": {"initial_accumulator_value": 0.1},  # a state before the first step
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_table_is_torchs(name: str) -> None:
    kind, numbers, options = OPTIMIZERS[name]
    found = inspect.signature(getattr(torch.optim, kind)).parameters
    assert {"lr", *numbers, *options} <= set(found)
    implementation = {"foreach", "maximize", "capturable", "differentiable", "fused", "self"}
    assert set(found) - {"params", "lr", *numbers, *options} <= implementation | {
        "decoupled_weight_decay"
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": "adamm"}, "Did you mean 'adam"),
        ({"name": "lbfgs"}, "no optimiser 'lbfgs'"),
        ({"name": "sgd", "betas": [0.5, 0.9]}, "sgd has no betas"),
        ({"name": "adam", "momentum": 0.9}, "adam has no option 'momentum'"),
        ({"name": "sgd", "momentum": "high"}, "option momentum of sgd is 'high'"),
        ({"name": "sgd", "momentum": -1.0}, "must not be negative"),
        ({"name": "sgd", "nesterov": True}, "nesterov needs momentum"),
        ({"name": "adam", "amsgrad": 1}, "must be true or false"),
    ],
)
def test_what_does_not_exist_is_refused_by_the_schema(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Optim.model_validate(given)


def test_options_reach_the_optimiser() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    made = make_optimizer([weight], Optim.model_validate({"name": "adamw", "weight_decay": 0.25}))
    assert type(made) is torch.optim.AdamW
    assert made.defaults["weight_decay"] == 0.25
    assert made.defaults["betas"] == (0.0, 0.999)
    other = make_optimizer([weight], Optim.model_validate({"name": "adagrad"}))
    assert other.defaults["eps"] == 1e-8, "as the recipe has it, not torch's own"


def test_scores_do_not_decay() -> None:
    scores = torch.nn.Parameter(torch.ones(3))
    numbers = Optim.model_validate({"name": "adamw", "weight_decay": 0.25})
    assert make_mask_optimizer([scores], numbers, 0.01).defaults["weight_decay"] == 0


@pytest.mark.parametrize(
    "name",
    ["sgd", *(pytest.param(n, marks=pytest.mark.slow) for n in ("adagrad", "adamw", "nadam"))],
)
def test_each_follows_cuts_and_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    optim = {"name": name, "lr": 1e-3, **SETTINGS[name]}
    plan = recipe(generator_optim=optim, discriminator_optim=optim, distill=[{"name": "pixel"}])
    whole = digest(go(plan, None))
    assert go(plan, tmp_path / "run", dataset=Interrupting(7, 15)).exit_code == 75
    assert digest(go(plan, tmp_path / "run", resume="auto")) == whole
