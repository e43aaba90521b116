"""Penalties on gradients: closed forms of linear networks, when they act, and that runs go on."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.recipes.parts import Regulariser
from gancompress.tasks.protocol import Batch, Shown
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.regularisation import (
    REGULARISERS,
    Judging,
    Making,
    Regularisers,
    judge_of,
)
from tests.training.nets import TinyDiscriminator, images, networks, recipe, train_recipe
from tests.training.test_resume import Interrupting, digest


def number(x: Any) -> float:
    return float(x.detach()) if isinstance(x, Tensor) else float(x)


FILL = torch.arange(1.0, 9.0).view(2, 4) / 4


class Linear(nn.Module):
    """One head for each row of ``weight``: w . x + 3."""

    def __init__(self, *rows: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(rows))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x.flatten(1) @ row[:, None] + 3 for row in self.weight]


def seen(D: nn.Module, real: Tensor = FILL, fake: Tensor = -FILL, **more: Any) -> Judging:
    rng = torch.Generator().manual_seed(0)
    real, fake = (x.view(2, 1, 2, 2) for x in (real, fake))
    return Judging(judge_of(D, (), rng), Shown(real, **more), Shown(fake, **more), rng)


def test_slopes_of_a_linear_discriminator_are_its_weight() -> None:
    D = Linear([3.0, 0.0, 4.0, 0.0])  # |w| = 5
    for name in ("r1", "r2"):
        assert number(REGULARISERS.bind(name)(seen(D))) == pytest.approx(12.5)
    penalty = REGULARISERS.bind("gradient_penalty")
    assert number(penalty(seen(D))) == pytest.approx(16.0)
    wide = REGULARISERS.bind({"name": "gradient_penalty", "norm": 7})
    assert number(wide(seen(D))) == pytest.approx(4.0)
    one = REGULARISERS.bind({"name": "gradient_penalty", "norm": 7, "one_sided": True})
    assert number(one(seen(D))) == 0.0


def test_several_heads_are_averaged_and_each_is_held_for_itself() -> None:
    # Opposite heads: the slope of their sum would be 0.
    D = Linear([1.0, 0, 0, 0], [-3.0, 0, 0, 0])
    assert number(REGULARISERS.bind("r1")(seen(D))) == pytest.approx((0.5 + 4.5) / 2)
    assert number(REGULARISERS.bind("gradient_penalty")(seen(D))) == pytest.approx(2.0)


def test_r1_looks_at_real_and_r2_at_made_samples() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().flatten(1).sum(1)  # slope 2 x

    real, fake = torch.full((2, 4), 0.5), torch.full((2, 4), 2.0)
    assert number(REGULARISERS.bind("r1")(seen(Square(), real, fake))) == pytest.approx(2.0)
    assert number(REGULARISERS.bind("r2")(seen(Square(), real, fake))) == pytest.approx(32.0)
    # On the line between, |slope| = 4 (0.5 s + 2 (1 - s)) for the two places drawn.
    at = torch.rand(2, generator=torch.Generator().manual_seed(0))
    expected = ((4 * (0.5 * at + 2 * (1 - at)) - 1) ** 2).mean()
    got = REGULARISERS.bind("gradient_penalty")(seen(Square(), real, fake))
    assert number(got) == pytest.approx(number(expected), rel=1e-5)


def test_a_penalty_on_patches_is_that_of_their_mean() -> None:
    class Patches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 6 * x  # the mean of 4 patches has slope 6 / 4 at each

    assert number(REGULARISERS.bind("r1")(seen(Patches()))) == pytest.approx(0.5 * 4 * 1.5**2)


def test_the_penalty_teaches_the_weights() -> None:
    D = Linear([3.0, 0.0, 4.0, 0.0])
    REGULARISERS.bind("r1")(seen(D)).backward()
    torch.testing.assert_close(D.weight.grad, D.weight.detach())  # d/dw |w|^2 / 2
    D.weight.grad = None
    REGULARISERS.bind("gradient_penalty")(seen(D)).backward()
    torch.testing.assert_close(D.weight.grad, 2 * (5 - 1) / 5 * D.weight.detach())


def test_squares_are_taken_in_float32_inside_of_a_bf16_run() -> None:
    D = Linear([1.0009765625, 0.0, 0.0, 0.0])  # no number of bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = seen(D, FILL.bfloat16(), FILL.bfloat16())
        value = Regularisers([Regulariser(name="r1")]).loss("discriminator", 0, lambda: given)
    assert isinstance(value, Tensor)
    assert value.dtype == torch.float32
    assert number(value) == pytest.approx(1.0009765625**2 / 2, rel=1e-6)


def test_path_length_of_a_linear_generator() -> None:
    # One output value a sample and channel: |J^T y| = |a| |y|, and y is drawn as here.
    matrix = torch.tensor([[3.0, 4.0]])

    def make(batch: Batch) -> Tensor:
        return (batch.inputs[0] @ matrix.T).view(-1, 1, 1, 1)

    given = Making(make, Batch((torch.ones(4, 2),)), torch.Generator().manual_seed(3))
    term = REGULARISERS.bind({"name": "path_length", "decay": 0.5})
    y = torch.randn(2, 1, 1, 1, generator=torch.Generator().manual_seed(3)).flatten()
    length = 5 * y.abs()
    mean = 0.5 * length.mean()
    assert number(term(given)) == pytest.approx(number((length - mean).square().mean()), rel=1e-5)
    assert isinstance(term, nn.Module)
    assert number(term.state_dict()["mean"]) == pytest.approx(number(mean))
    before = number(mean)
    term(given)
    assert number(term.state_dict()["mean"]) != pytest.approx(before)


def test_noise_of_path_length_is_scaled_by_the_size_of_the_output() -> None:
    def length(side: int) -> float:
        def make(batch: Batch) -> Tensor:
            return batch.inputs[0].view(-1, 1, 1, 1).expand(-1, 1, side, side)

        batch = Batch((torch.ones(512, 1),))
        term = REGULARISERS.bind({"name": "path_length", "decay": 1.0, "shrink": 1})
        term(Making(make, batch, torch.Generator().manual_seed(0)))
        return number(term.state_dict()["mean"])  # type: ignore[attr-defined]

    # J^T y is a sum of side^2 normals of deviation 1 / side: a unit normal at any size.
    expected = math.sqrt(2 / math.pi)
    assert length(4) == pytest.approx(expected, rel=0.1)
    assert length(16) == pytest.approx(expected, rel=0.1)


def test_weight_and_interval() -> None:
    D = Linear([3.0, 0.0, 4.0, 0.0])
    found = Regularisers([Regulariser(name="r1", weight=10.0, every=4)])
    values = [found.loss("discriminator", n, lambda: seen(D)) for n in range(6)]
    assert [number(v) for v in values] == pytest.approx([500, 0, 0, 0, 500, 0])  # 12.5 * 10 * 4
    assert number(found.figures("discriminator")["r1"]) == pytest.approx(12.5)
    assert found.loss("generator", 0, lambda: seen(D)) == 0.0


# -- in a run ------------------------------------------------------------------------------------
EVERY_KIND = [
    {"name": "r1", "weight": 0.5, "every": 3},
    {"name": "r2", "weight": 0.1},
    {"name": "gradient_penalty", "weight": 1.0, "every": 2},
    {"name": "path_length", "weight": 0.5, "every": 4, "decay": 0.3},
]
PLANS = {
    "train": train_recipe(regularisers=EVERY_KIND, adversarial={"loss": "wgan"}),
    "prune": recipe(regularisers=EVERY_KIND, discriminator={"steps": 2}),
}


def go(plan: Any, out: Path | None, **options: Any) -> Any:
    generator, discriminator = networks()
    given = {
        "generator": generator, "discriminator": discriminator, "dataset": images(),
        "screen": Silent(), "out": out,
    }  # fmt: skip
    return train(plan, **(given | options))


@pytest.mark.parametrize("name", sorted(PLANS))
@pytest.mark.parametrize("at", [3, 10])
def test_a_run_with_every_kind_is_resumed_bit_for_bit(tmp_path: Path, name: str, at: int) -> None:
    plan = PLANS[name]
    whole = go(plan, None)
    assert {"r1", "r2", "gradient_penalty", "path_length"} <= set(whole.history[-1])
    rounds = plan.discriminator.steps
    stopping = Interrupting(at * rounds, signal.SIGTERM)
    assert go(plan, tmp_path / "run", dataset=stopping).exit_code == 75
    assert digest(go(plan, tmp_path / "run", resume="auto")) == digest(whole)


def test_a_checkpoint_holds_the_mean_path_length(tmp_path: Path) -> None:
    from gancompress.training.checkpoint import latest_checkpoint

    go(PLANS["train"], tmp_path / "run")
    found = latest_checkpoint(tmp_path / "run" / "ckpt")[0]
    assert found is not None
    assert float(found.parts["regularisers"]["3.mean"]) > 0


def test_a_step_that_went_wrong_leaves_no_trace_in_the_mean() -> None:
    D = TinyDiscriminator()

    class Once(nn.Module):
        n_classes = 3

        def __init__(self) -> None:
            super().__init__()
            self.inner = networks()[0]
            self.calls = [0]  # what an attribute holds is put back after a bad step
            self.sample_inputs = self.inner.sample_inputs

        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            out = self.inner(z, y)
            if self.training and z.requires_grad:
                self.calls[0] += 1
                return out * float("nan") if self.calls[0] == 3 else out
            return out

    plan = train_recipe(regularisers=[{"name": "path_length", "weight": 0.1}], log_every=1)
    result = train(plan, generator=Once(), discriminator=D, dataset=images(), screen=Silent())
    finite = [math.isfinite(line["path_length"]) for line in result.history]
    assert finite == [step != 2 for step in range(len(finite))]


def lengths(plan: Any, **options: Any) -> list[float]:
    """The norm of D's weights after each step."""
    generator, discriminator = networks()
    moved: list[Tensor] = []

    class Watch(Silent):
        def update(self, line: object) -> None:
            moved.append(nn.utils.parameters_to_vector(discriminator.parameters()).detach().clone())

    train(
        plan, generator=generator, discriminator=discriminator, dataset=images(), screen=Watch(),
        **options,
    )  # fmt: skip
    return [float(x.norm()) for x in moved]


def test_a_lazy_penalty_changes_the_updates_that_it_is_due_at_only() -> None:
    # betas 0: a move depends on that step's gradient alone, and the first one is due.
    base = {"discriminator_optim": {"lr": 1e-3, "betas": [0, 0]}, "steps": 4, "augment": []}
    plain = lengths(train_recipe(**base))
    lazy = lengths(train_recipe(**base, regularisers=[{"name": "r1", "weight": 50, "every": 4}]))
    none = lengths(train_recipe(**base, regularisers=[{"name": "r1", "weight": 0, "every": 4}]))
    assert lazy[0] != plain[0]
    assert len(none) == len(plain) == 4


REFUSALS: dict[str, tuple[Callable[[], Any], str]] = {
    "no discriminator": (
        lambda: go(recipe(regularisers=["r1"]), None, discriminator=None),
        "r1 is for a discriminator that learns, and there is none",
    ),
    "no weight": (
        lambda: go(recipe(regularisers=["r2"], adversarial={"weight": 0.0}), None),
        "r2 is for a discriminator that learns, and there is none",
    ),
    "frozen": (
        lambda: go(
            recipe(regularisers=["gradient_penalty"], discriminator={"policy": "frozen"}), None
        ),
        "discriminator.policy is frozen",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_what_cannot_work_is_refused_before_any_step(name: str) -> None:
    call, message = REFUSALS[name]
    with pytest.raises(ConfigError, match=message) as caught:
        call()
    assert caught.value.exit_code == 2


class Pictures(nn.Module):
    """Reads a picture, and no latent."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x))

    def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(n, 1, 4, 4, generator=rng),)


def test_path_length_of_a_generator_without_a_latent_is_refused() -> None:
    plan = recipe(
        kind="distill", target=None, finetune_steps=0, shrink={"events": []},
        distill=[{"name": "pixel"}], regularisers=["path_length"], augment=[],
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"regularisers.0: path_length .* no latent"):
        train(plan, generator=Pictures(), screen=Silent())


def test_a_network_that_has_no_second_derivative_is_refused_by_name() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g * 2

    class Stubborn(TinyDiscriminator):
        def forward(self, images: Tensor, y: Tensor) -> Tensor:
            return super().forward(Once.apply(images), y)

    with pytest.raises(ConfigError, match=r"r1 cannot work on Stubborn.*differentiated twice"):
        go(train_recipe(regularisers=["r1"]), None, discriminator=Stubborn())


def test_bad_entries_are_refused_by_place() -> None:
    with pytest.raises(ConfigError, match=r"regularisers.0.name: no regulariser named 'r3'"):
        go(train_recipe(regularisers=["r3"]), None)
    with pytest.raises(ConfigError, match=r"regularisers.1.norm"):
        go(train_recipe(regularisers=["r1", {"name": "gradient_penalty", "norm": -1}]), None)
    with pytest.raises(ValueError, match="every"):
        train_recipe(regularisers=[{"name": "r1", "every": 0}])


def test_conditions_and_labels_reach_the_discriminator_unchanged() -> None:
    got: list[tuple[Any, Any]] = []

    class Conditional(nn.Module):
        def forward(self, condition: Tensor, image: Tensor, y: Tensor) -> Tensor:
            got.append((condition.clone(), y.clone()))
            return (condition * image).flatten(1).sum(1) * (1 + y)

    condition, labels = torch.full((2, 1, 2, 2), 3.0), torch.tensor([0, 1])
    value = REGULARISERS.bind("r1")(seen(Conditional(), condition=condition, labels=labels))
    # Slopes 3 and 6 at each of 4 places: (36 + 144) / 2 / 2.
    assert number(value) == pytest.approx(45.0)
    assert all(torch.equal(c, condition) and torch.equal(y, labels) for c, y in got)
