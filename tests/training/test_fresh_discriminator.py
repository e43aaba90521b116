"""A discriminator where there is none: it fits any output, and the run keeps it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.modules.discriminator import call_of
from gancompress.tasks.protocol import Shown
from gancompress.training.checkpoint import latest_checkpoint
from gancompress.training.fresh_discriminator import fresh_discriminator, student_params
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.training.nets import images, networks, recipe, train_recipe
from tests.training.test_resume import Interrupting, digest

FRESH = {"policy": "fresh"}


class Classes:
    """As much of a task as is asked."""

    has_real = False
    sampler = type("S", (), {"n_classes": 3})()


def made(shown: Shown, params: int = 20_000, seed: int = 0) -> nn.Module:
    return fresh_discriminator(recipe(seed=seed, discriminator=FRESH), Classes(), shown, params)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "shape",
    [
        (1, 8, 8), (3, 9, 31), (3, 64, 64), (4, 16, 200), (32, 128, 96), (3, 256, 256),
        (1, 8), (1, 1000), (2, 8192), (1, 8, 8, 8), (2, 16, 9, 24),
    ],
)  # fmt: skip
@pytest.mark.parametrize("labelled", [False, True])
def test_outputs_of_any_size_get_finite_logits_of_their_patches(
    shape: tuple[int, ...], labelled: bool
) -> None:
    torch.manual_seed(0)
    shown = Shown(torch.randn(2, *shape), torch.tensor([2, 0]) if labelled else None)
    D = made(shown)
    heads = call_of(D, shown.output, shown.labels)(D, image=shown.output, label=shown.labels)
    assert len(heads) == 1
    assert heads[0].shape[:2] == (2, 1)
    assert heads[0].ndim == len(shape) + 1
    assert bool(heads[0].isfinite().all())
    heads[0].sum().backward()
    assert all(p.grad is not None for p in D.parameters())


def test_labels_and_condition_are_looked_at() -> None:
    torch.manual_seed(0)
    x, y, c = torch.randn(2, 3, 16, 16), torch.tensor([2, 0]), torch.randn(2, 1, 16, 16)
    D = made(Shown(x, y, c)).eval()
    call = call_of(D, x, y, c)
    assert str(call) == "cat(condition, image), label"
    base, other, elsewhere = (
        call(D, image=x, label=label, condition=condition)[0]
        for label, condition in ((y, c), (y - torch.tensor([1, 0]), c), (y, c + 1))
    )
    assert not torch.equal(base[0], other[0])
    assert torch.equal(base[1], other[1])
    assert not torch.equal(base, elsewhere)
    # A condition of another size (a vector) is left out.
    assert str(call_of(made(Shown(x, None, torch.randn(2, 7))), x)) == "image"


@pytest.mark.parametrize("budget", [20_000, 60_000, 1_000_000])
def test_it_is_about_as_large_as_the_student(budget: int) -> None:
    D = made(Shown(torch.randn(2, 3, 32, 32)), budget)
    assert 0.6 * budget < sum(p.numel() for p in D.parameters()) < 1.6 * budget
    generator = networks()[0]
    whole = sum(p.numel() for p in generator.parameters())
    assert student_params(recipe(target="params=4x"), generator) == round(whole / 4)
    assert student_params(train_recipe(), generator) == whole


def test_weights_follow_the_seed_and_disturb_nothing() -> None:
    shown = Shown(torch.randn(2, 1, 8, 8))
    state = torch.get_rng_state()
    first, same, other = made(shown), made(shown), made(shown, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    vector = nn.utils.parameters_to_vector
    assert torch.equal(vector(first.parameters()), vector(same.parameters()))
    assert not torch.equal(vector(first.parameters()), vector(other.parameters()))


def test_slopes_are_bounded_by_spectral_norm() -> None:
    torch.manual_seed(0)
    D = made(Shown(torch.randn(2, 1, 16, 16)))
    for _ in range(50):
        D(torch.randn(2, 1, 16, 16))
    D.eval()
    for layer in (D.stem, D.last, D.head):
        flat = layer.weight.detach().flatten(1)
        assert float(torch.linalg.matrix_norm(flat, 2)) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("shape", [(1, 7, 8), (4,), (1, 4, 4, 4, 4)])
def test_outputs_that_it_cannot_judge_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="discriminator of your own"):
        made(Shown(torch.randn(2, *shape)))


# -- in a run ------------------------------------------------------------------------------------
PLANS = {
    "prune": recipe(discriminator=FRESH, shrink={"events": [0.4, 0.7], "discriminator": True}),
    "train": train_recipe(discriminator=FRESH, regularisers=[{"name": "r1", "every": 3}]),
}


class Telling(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, text: str) -> None:
        self.said.append(text)


def go(plan: Any, out: Path | None, **options: Any) -> Any:
    given = {"generator": networks()[0], "dataset": images(), "screen": Silent(), "out": out}
    return train(plan, **(given | options))


@pytest.mark.parametrize("name", sorted(PLANS))
def test_it_learns_and_is_resumed_bit_for_bit(tmp_path: Path, name: str) -> None:
    screen = Telling()
    whole = go(PLANS[name], tmp_path / "whole", screen=screen)
    assert any("fresh: one of our own with a projection on labels" in t for t in screen.said)
    assert any("made for the student's" in t for t in screen.said) is (name == "prune")
    assert not any("no discriminator" in text for text in screen.said)
    assert {"g_loss", "d_loss", "real", "fake"} <= set(whole.history[-1])
    stopping = Interrupting(5, signal.SIGTERM)
    assert go(PLANS[name], tmp_path / "run", dataset=stopping).exit_code == 75
    assert digest(go(PLANS[name], tmp_path / "run", resume="auto")) == digest(whole)
    first, last = (latest_checkpoint(tmp_path / folder / "ckpt")[0] for folder in ("run", "whole"))
    assert first is not None
    assert last is not None
    for key, value in first.parts["discriminator"].items():
        assert torch.equal(value, last.parts["discriminator"][key])


def test_without_data_the_teacher_is_what_it_calls_real() -> None:
    seen: list[Tensor] = []

    class Teacher(type(networks()[0])):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            out = super().forward(z, y)
            if not self.training:
                seen.append(out)
            return out

    plan = recipe(
        kind="distill", student={"init": "narrow"}, finetune_steps=0, shrink={"events": []},
        distill=[], augment=[], discriminator=FRESH, steps=3,
    )  # fmt: skip
    torch.manual_seed(0)
    result = go(plan, None, generator=Teacher(), dataset=None)
    assert result.history[-1]["d_loss"] > 0
    assert sum(len(x) == plan.batch for x in seen) >= 3


def test_the_given_one_teaches_and_the_fresh_one_judges() -> None:
    generator, discriminator = networks()
    before = nn.utils.parameters_to_vector(discriminator.parameters()).clone()
    plan = recipe(distill=[{"name": "discriminator_features"}], discriminator=FRESH)
    go(plan, None, generator=generator, discriminator=discriminator)
    assert torch.equal(nn.utils.parameters_to_vector(discriminator.parameters()), before)


def test_bce_on_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not end in a sigmoid"):
        go(train_recipe(discriminator=FRESH, adversarial={"loss": "bce"}), None)


def test_sound_and_volumes_train_with_it() -> None:
    class Sound(nn.Module):
        def __init__(self, dims: int) -> None:
            super().__init__()
            self.shape = (1, 16) if dims == 1 else (1, 8, 8, 8)
            self.linear = nn.Linear(4, 16 if dims == 1 else 512)

        def forward(self, z: Tensor) -> Tensor:
            return torch.tanh(self.linear(z)).view(len(z), *self.shape)

        def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
            return (torch.randn(n, 4, generator=rng),)

    for dims in (1, 3):
        plan = recipe(
            kind="distill", target=None, finetune_steps=0, shrink={"events": []}, distill=[],
            augment=[], discriminator=FRESH, steps=2,
        )  # fmt: skip
        torch.manual_seed(0)
        result = train(plan, generator=Sound(dims), screen=Silent())
        assert result.history[-1]["d_loss"] > 0
