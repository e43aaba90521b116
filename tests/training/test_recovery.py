"""What a step that is not finite leaves behind, and where the run goes on from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import DivergedError
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.recovery import finite_step, finite_tensors
from gancompress.training.start import TrainResult
from tests.training.nets import TinyGenerator, images, networks, recipe

SIGN = {"lr": 1e-3, "betas": [0.0, 0.0], "eps": 1e-30}


class Watching(Silent):
    """Keeps what is told, and a look at the network after each step."""

    def __init__(self, network: TinyGenerator) -> None:
        self.network, self.told, self.seen = network, list[str](), [vector(network)]
        self.means = [network.norm1.running_mean.clone()]

    def update(self, line: object) -> None:
        self.seen.append(vector(self.network))
        self.means.append(self.network.norm1.running_mean.clone())

    def event(self, text: str) -> None:
        self.told.append(text)


def vector(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().double().clone()


def failing(bad: set[int]) -> tuple[TinyGenerator, list[Tensor]]:
    """Return what puts out NaN in chosen training calls, and the latents of all of these.

    They are counted outside of the network: what a bad step counted in it is put back.
    """
    calls: list[Tensor] = []

    class Failing(TinyGenerator):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            # After the statistics of the norms were written.
            out = super().forward(z, y)
            # Two samples: the look at memory before step 0.
            if self.training and torch.is_grad_enabled() and len(z) > 2:
                calls.append(z.clone())
                return out * float("nan") if len(calls) in bad else out
            return out

    torch.manual_seed(0)
    return Failing(), calls


def run(bad: set[int], **changes: Any) -> tuple[TrainResult, list[Tensor], Watching]:
    plain = {
        "kind": "train", "target": None, "finetune_steps": 0, "shrink": {"events": []},
        "distill": [], "augment": [], "lr_decay": None, "sample_every": 0, "checkpoint_every": 0,
        "steps": 10, "generator_optim": SIGN,
    }  # fmt: skip
    (generator, calls), (_, discriminator) = failing(bad), networks()
    screen = Watching(generator)
    result = train(
        recipe(**plain | changes), generator=generator, discriminator=discriminator,
        dataset=images(), screen=screen,
    )  # fmt: skip
    return result, calls, screen


def test_a_bad_step_moves_neither_weights_nor_the_average() -> None:
    result, _, screen = run({3}, steps=3, ema={"decay": 0.5, "start": 0})
    assert torch.equal(screen.seen[2], screen.seen[3])
    assert torch.equal(screen.means[2], screen.means[3]), "nor statistics"
    assert not torch.equal(screen.means[1], screen.means[2])
    assert not torch.equal(screen.seen[1], screen.seen[2])
    expected = 0.5 * (0.5 * screen.seen[0] + 0.5 * screen.seen[1]) + 0.5 * screen.seen[2]
    torch.testing.assert_close(vector(result.generator), expected, rtol=1e-5, atol=1e-6)
    assert all(p.grad is None for p in screen.network.parameters()), "gradients are forgotten"


def test_weights_that_no_loss_has_felt_are_no_fault_of_the_cut() -> None:
    """An infinity in the row of a class that no batch has: found where the network is cut."""
    generator, discriminator = networks()

    def spoil(happening: object) -> None:
        with torch.no_grad():
            generator.embed.weight[0, 0] = float("inf")

    def labels(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 6, generator=rng), torch.ones(n, dtype=torch.int64)

    generator.sample_inputs = labels  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match="not finite at step .*, where they are cut"):
        train(
            recipe(checkpoint_every=0, distill=[]), generator=generator,
            discriminator=discriminator, dataset=images(), screen=Silent(), callbacks=[spoil],
        )  # fmt: skip


def test_bad_steps_here_and_there_are_no_reason_to_go_back() -> None:
    _, _, screen = run({2, 3, 5, 6, 8, 9})
    assert sum("not finite" in text for text in screen.told) == 6
    assert not any("rolled back" in text for text in screen.told)


def test_a_rollback_draws_anew_at_half_the_rate() -> None:
    _, calls, screen = run({4, 5, 6})
    assert [t for t in screen.told if "rolled back" in t] == ["rolled back to step 0"]
    moves = [float((b - a).abs().max()) for a, b in zip(screen.seen, screen.seen[1:], strict=False)]
    assert moves[:3] == pytest.approx([1e-3] * 3, rel=1e-3)
    assert moves[-10:][1:] == pytest.approx([5e-4] * 9, rel=1e-3)
    first, again = calls[0], calls[6]
    assert not torch.equal(first, again), "other latents, or the same would happen again"


@pytest.mark.parametrize("every", [0, 4])
def test_a_rollback_goes_to_the_last_save(every: int) -> None:
    _, _, screen = run({6, 7, 8}, checkpoint_every=every)
    assert f"rolled back to step {4 if every else 0}" in screen.told


def test_a_rollback_brings_back_the_weights_of_that_step() -> None:
    _, _, screen = run({6, 7, 8}, checkpoint_every=4, steps=8)
    # Steps 1 to 5, two bad ones, then step 5 again: one half move from where step 4 had ended.
    again = screen.seen[8]
    assert float((again - screen.seen[4]).abs().max()) == pytest.approx(5e-4, rel=1e-3)


def test_two_rollbacks_are_the_most() -> None:
    with pytest.raises(DivergedError, match="after 2 rollbacks"):
        run(set(range(4, 14)))
    result, _, _ = run({*range(4, 7), *range(9, 12)})
    assert result.exit_code == 0


def test_a_gradient_that_is_not_finite_makes_a_step_bad() -> None:
    one, two = (nn.Parameter(torch.ones(2)) for _ in range(2))
    one.grad, two.grad = torch.ones(2), torch.ones(2)
    assert finite_step(torch.tensor(1.0), [one, two])
    assert not finite_step(torch.tensor(float("nan")), [one, two])
    two.grad[1] = float("inf")
    assert not finite_step(torch.tensor(1.0), [one, two])


def test_one_tensor_that_is_not_finite_spoils_all() -> None:
    fine, bad = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert finite_tensors([fine, torch.tensor([1, 2])])
    assert not finite_tensors([fine, bad])


def test_going_back_does_not_cross_a_cut() -> None:
    # The cut at step 5 changes shapes; a state of before would not load any more.
    result, _, screen = run(
        {7, 8, 9}, kind="prune", target="params=2x", steps=12, finetune_steps=2,
        distill=[{"name": "pixel"}], shrink={"events": [0.4]}, ema={"decay": 0.5, "start": 2},
    )  # fmt: skip
    assert "rolled back to step 5" in screen.told
    assert result.verified is not None
    assert result.verified["passed"]
