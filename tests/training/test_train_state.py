"""All that learns in a run, as one thing: what it holds, keeps and takes up again."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import CheckpointError
from gancompress.masks.attach import find_masks
from gancompress.recipes.schema import Recipe
from gancompress.training.distillation import Distillation
from gancompress.training.student import masked_student
from gancompress.training.train_state import TrainState
from tests.training.nets import networks, recipe

RATES: dict[str, Any] = {
    "generator_optim": {"lr": 0.001, "betas": [0.1, 0.2], "eps": 1e-6},
    "discriminator_optim": {"lr": 0.004, "betas": [0.3, 0.4], "eps": 1e-5},
    "mask_lr": 0.02,
}


def gathered(plan: Recipe, seed: int = 0) -> TrainState:
    """The state of a pruning run at its first step, masks and distillers in place."""
    generator, discriminator = networks(seed)
    teacher, _ = networks(seed + 1)
    example = generator.sample_inputs(2, torch.Generator().manual_seed(0))
    masked = masked_student(generator, example, plan)
    ema = copy.deepcopy(generator)
    distillation = Distillation(
        plan.distill, teacher=teacher.eval(), student=generator, discriminator=discriminator,
        example=example,
    )  # fmt: skip
    return TrainState.gather(
        plan, generator, ema, discriminator, masked=masked, distillation=distillation
    )


def learn(state: TrainState, steps: int = 2) -> None:
    """Move everything, so that every optimiser has a state."""
    for step in range(steps):
        torch.manual_seed(step)
        for optimizer in state.optimizers.values():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.grad = torch.randn_like(p)
            optimizer.step()


def tensors(state: TrainState) -> dict[str, Tensor]:
    return {f"{n}/{k}": t.clone() for n, part in state.parts().items() for k, t in part.items()}


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_each_optimiser_has_the_numbers_that_the_recipe_gives_it() -> None:
    plan = recipe(**RATES)
    state = gathered(plan)
    state.set_learning_rates(plan, 0.5)
    found = {
        name: [(g["lr"], tuple(g["betas"]), g["eps"]) for g in o.param_groups]
        for name, o in state.optimizers.items()
    }
    own = (0.1, 0.2), 1e-6
    assert found == {
        "generator": [(0.0005, *own)],
        "masks": [(0.01, *own)],
        "connectors": [(0.0005, *own)],
        "discriminator": [(0.002, (0.3, 0.4), 1e-5)],
    }


def test_a_frozen_discriminator_has_no_optimiser() -> None:
    state = gathered(recipe(discriminator={"policy": "frozen"}))
    assert "discriminator" not in state.optimizers
    assert state.learning_discriminator is None


def test_a_snapshot_stays_while_training_goes_on() -> None:
    state = gathered(recipe())
    learn(state)
    before = tensors(state)
    saved = state.snapshot(16)
    learn(state, 3)
    kept = {f"{n}/{k}": t for n, part in saved.parts.items() for k, t in part.items()}
    assert_same(before, kept)
    assert not torch.equal(
        before["generator/conv2.bias"], state.generator.state_dict()["conv2.bias"]
    )


@pytest.mark.parametrize("how", ["resume", "roll_back"])
def test_everything_is_taken_up_again(how: str) -> None:
    plan = recipe()
    state = gathered(plan)
    learn(state)
    state.step, state.rollbacks = 5, 1
    state.masked.advance(0.25)
    before, saved = tensors(state), state.snapshot(16)
    learn(state, 3)
    state.masked.advance(0.6)
    if how == "resume":
        state = gathered(plan, seed=4)
        state.resume(saved.step, saved.parts, saved.state)
        assert (state.step, state.rollbacks) == (5, 1)
    else:
        state.step = 9
        state.roll_back(saved)
        assert (state.step, state.rollbacks) == (5, 2)
        assert state.masked.progress == 0.25
    assert_same(before, tensors(state))
    # The very next step is the same too: moments and step counts are those of then.
    learn(state, 1)
    after = tensors(state)
    again = gathered(plan, seed=7)
    again.restore(saved.parts)
    learn(again, 1)
    assert_same(after, tensors(again))


@pytest.mark.parametrize("gone", ["ema", "optim-generator", "optim-masks", "optim-discriminator"])
def test_no_part_may_be_missing(gone: str) -> None:
    state = gathered(recipe())
    learn(state)
    found = {name: part for name, part in state.parts().items() if name != gone}
    with pytest.raises(CheckpointError, match=gone.removeprefix("optim-")):
        state.restore(found)


def test_masks_of_the_average_follow_the_choice() -> None:
    state = gathered(recipe())
    learn(state)
    state.masked.advance(0.7)
    state.average(0.999)
    copies = find_masks(state.ema)
    assert sum(int((~m.alive).sum()) for m in state.masked.masks.values()) > 0
    for name, mask in state.masked.masks.items():
        assert torch.equal(copies[name].alive, mask.alive)
        assert torch.equal(copies[name].scores, mask.scores)
        assert copies[name]._progress == mask._progress


def test_the_average_moves_by_its_decay() -> None:
    state = gathered(recipe())
    before = state.ema.get_parameter("conv2.bias").clone()
    learn(state)
    now = state.generator.get_parameter("conv2.bias")
    state.average(0.75)
    torch.testing.assert_close(state.ema.get_parameter("conv2.bias"), 0.75 * before + 0.25 * now)


def test_distillers_hear_of_dead_channels_at_once_and_of_cuts() -> None:
    state = gathered(recipe())
    told: list[str] = []
    for verb in ("mute", "shrink"):
        own = getattr(state.distillation, verb)

        def listen(kept: Any, verb: str = verb, own: Any = own) -> None:
            told.append(f"{verb} {len(kept('conv1'))}")
            own(kept)

        setattr(state.distillation, verb, listen)
    state.advance(0.0)
    assert told == []
    state.advance(0.7)
    left = int(state.masked.masks["conv1"].alive.sum())
    assert left < 12
    assert told == [f"mute {left}"]
    state.shrink()
    assert told[1:] == [f"shrink {left}"]
    assert state.ema.get_parameter("conv2.parametrizations.weight.original").shape[1] == left


def test_the_largest_error_of_all_cuts_is_told() -> None:
    state = gathered(recipe())
    found = SimpleNamespace(max_error=2e-12, passed=True)
    state.masked = SimpleNamespace(verification=found, cut_errors=[5e-13, 7e-11, 1e-12])
    assert state.verification() == {"max_error": 7e-11, "passed": True, "cuts": 3}


def test_gradients_are_forgotten_everywhere_but_in_the_discriminator() -> None:
    state = gathered(recipe())
    learn(state, 1)
    state.zero_grad()
    learners = list(state.learners())
    assert len(learners) > len(list(state.generator.parameters()))
    assert all(p.grad is None for p in learners)
    assert state.discriminator is not None
    assert all(p.grad is not None for p in state.discriminator.parameters())


def test_an_update_moves_all_but_the_discriminator() -> None:
    state = gathered(recipe(**RATES))
    held = {
        n: [p for g in o.param_groups for p in g["params"]] for n, o in state.optimizers.items()
    }
    before = {n: [p.detach().clone() for p in row] for n, row in held.items()}
    for p in (*state.learners(), *nn.Module.parameters(state.discriminator)):
        p.grad = torch.ones_like(p)
    state.update()
    for name, row in held.items():
        moved = [not torch.equal(a, b) for a, b in zip(row, before[name], strict=True)]
        assert all(moved) if name != "discriminator" else not any(moved)
