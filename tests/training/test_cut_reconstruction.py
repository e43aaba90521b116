"""Layers solved anew after live cuts: nearer to the reference, resumable, refused where it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, GraphError
from gancompress.recipes.load import load_recipe
from gancompress.training.cut_reconstruction import held_progress
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.optimizer_state import forget_directions
from tests.training.nets import TinyGenerator, images, networks, recipe
from tests.training.test_companions import Stopping, events

SOLVING = {"events": [0.4, 0.7], "reconstruct": True, "samples": 32}


def steady() -> TinyGenerator:
    """The tiny generator, whose statistics do not move in training."""
    generator = networks()[0]
    generator.norm.momentum = generator.norm1.momentum = 0.0
    return generator


def cut(out: Path | None = None, *, shrink: dict[str, Any], **more: Any) -> Any:
    generator, discriminator = networks()
    names = ("dataset", "resume", "generator", "teacher")
    given = {k: more.pop(k) for k in names if k in more}
    given = {"generator": generator, "dataset": images()} | given
    made = recipe(shrink=shrink, **more)
    return train(made, discriminator=discriminator, out=out, screen=Silent(), **given)


def distance(one: nn.Module, other: nn.Module) -> float:
    inputs = networks()[0].sample_inputs(256, torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((one.eval()(*inputs) - other.eval()(*inputs)).square().mean())


@pytest.mark.parametrize("reference", ["teacher", "itself"])
def test_the_cut_student_comes_nearer_and_the_log_says_by_how_much(
    reference: str, tmp_path: Path
) -> None:
    """Learning rates of nothing: what differs is what the solving after the cuts did."""
    still = {
        "generator_optim": {"lr": 1e-30}, "ema": {"decay": 0.0, "start": 0}, "mask_lr": 0.0,
        "schedule": {"start": 0.0, "end": 0.5},
    }  # fmt: skip
    apart = {}
    for name, more in (("solved", {"reference": reference}), ("cut", {})):
        shrink = {"events": [0.7], "hold": True}
        shrink |= ({"reconstruct": True, "samples": 32} | more) if name == "solved" else {}
        result = cut(tmp_path / name, shrink=shrink, generator=steady(), **still)
        assert result.verified["passed"]
        apart[name] = distance(result.generator, networks()[0])
        told = events(tmp_path / name, "reconstruct")
        assert len(told) == len(events(tmp_path / name, "shrink")) * (name == "solved")
        for event in told:
            assert event["after"] < event["before"]
            assert event["taken"]
            assert "layers solved for on 32 samples" in event["text"]
    assert apart["solved"] < 0.9 * apart["cut"]


@pytest.mark.parametrize("reference", [pytest.param("teacher", marks=pytest.mark.slow), "itself"])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(reference: str, tmp_path: Path) -> None:
    shrink = SOLVING | {"reference": reference, "hold": True}
    whole = cut(tmp_path / "whole", shrink=shrink)
    cut(tmp_path / "cut", shrink=shrink, dataset=Stopping(7))
    again = cut(tmp_path / "cut", shrink=shrink, resume="auto")
    assert again.history[-1] == whole.history[-1]
    state = again.generator.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in whole.generator.state_dict().items())


@pytest.mark.slow
def test_the_last_cut_of_a_run_without_more_steps_is_solved_too(tmp_path: Path) -> None:
    shrink = SOLVING | {"events": [], "hold": True}
    result = cut(tmp_path, shrink=shrink, finetune_steps=0)
    (told,) = events(tmp_path, "reconstruct")
    assert told["step"] == 12
    assert result.verified["passed"]


def test_held_channels_die_at_the_cuts_alone(tmp_path: Path) -> None:
    result = cut(tmp_path, shrink={"events": [0.4, 0.7], "hold": True})
    sizes = [line["params"] for line in result.history]
    changes = [i + 1 for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)) if a != b]
    assert changes == [4, 8]  # steps 5 and 9: the history begins with step 1
    made = recipe(shrink={"events": [0.4, 0.7], "hold": True})
    assert [held_progress(made, s / 12, 12) * 12 for s in (4, 5, 8, 9, 11, 12)] == [
        0,
        5,
        5,
        9,
        9,
        12,
    ]


def test_momentum_of_moved_weights_is_forgotten_and_sizes_stay() -> None:
    moved, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    for optimizer in (
        torch.optim.Adam([moved, other]), torch.optim.SGD([moved, other], 0.1, momentum=0.9)
    ):  # fmt: skip
        (moved.sum() + other.sum()).backward()
        optimizer.step()
        forget_directions([optimizer], [moved])
        key = "exp_avg" if isinstance(optimizer, torch.optim.Adam) else "momentum_buffer"
        assert not optimizer.state[moved][key].any()
        assert optimizer.state[other][key].all()
        if key == "exp_avg":
            assert optimizer.state[moved]["exp_avg_sq"].all()


class Wandering(TinyGenerator):
    """Runs one layer more on inputs whose first number is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(6, 6)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return super().forward(z + 0 * self.more(z) if z[0, 0] > 0 else z, y)


class Other(TinyGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(12, 1, 5, padding=2)


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"relaxation": "scurve"}, ConfigError, "until progress 0.75, and there is a cut at 0.4"),
        ({"teacher": Other()}, ConfigError, r"'conv2.weight' is \(1, 12, 5, 5\) in the teacher"),
        ({"generator": Wandering()}, GraphError, "Set shrink.reconstruct=false"),
    ],
)
def test_what_cannot_be_solved_is_refused_before_the_first_step(
    more: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        cut(tmp_path / "run", shrink=SOLVING, distill=[{"name": "pixel"}], **more)
    assert not list(tmp_path.glob("run/checkpoints/*"))


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("magnitude", "shrink={reference: itself}", "changes nothing without reconstruct"),
        ("magnitude", "shrink={reconstruct: true, samples: 0}", "greater than or equal to 1"),
        ("magnitude", "shrink={reconstruct: true, reference: data}", "'teacher' or 'itself'"),
        ("narrow", "shrink={reconstruct: true}", "belong to kind prune"),
    ],
)
def test_words_that_would_change_nothing_are_refused(name: str, word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_recipe(name, [word])
