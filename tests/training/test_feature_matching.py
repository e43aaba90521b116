"""Feature matching: hand-worked values, where features come from, weights, and runs that go on."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.data.inputs import InputSampler
from gancompress.errors import ConfigError
from gancompress.modules.discriminator import DiscriminatorCall
from gancompress.tasks.paired import Paired
from gancompress.tasks.protocol import Shown
from gancompress.tasks.split import Split
from gancompress.training.feature_matching import FeatureMatching, Judged
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.training.nets import recipe
from tests.training.test_resume import Interrupting, digest


class Pairs:
    """48 pictures (1, 8, 8), each wanted as its own negative."""

    n_classes = None

    def __init__(self, inner: Any = None) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return 48

    def pairs(self, indices: Tensor) -> tuple[Tensor, Tensor, None]:
        if self.inner is not None:
            self.inner.batch(indices)  # where a test interrupts
        x = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5
        return x[indices], -x[indices], None


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.relu(self.first(x))))


class Patches(nn.Module):
    """Logits alone, or logits and the maps of two layers."""

    def __init__(self, *, tells: bool) -> None:
        super().__init__()
        self.tells = tells
        self.one, self.two = nn.Conv2d(1, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1)
        self.last = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Any:
        a = torch.nn.functional.leaky_relu(self.one(x), 0.2)
        b = torch.nn.functional.leaky_relu(self.two(a), 0.2)
        return (self.last(b), [a, b]) if self.tells else self.last(b)


def plan(**changes: Any) -> Any:
    base: dict[str, Any] = {
        "kind": "distill", "target": None, "finetune_steps": 0, "shrink": {"events": []},
        "distill": [], "augment": [], "losses": [{"name": "l1", "weight": 0.0}],
        "feature_matching": {"weight": 2.0},
    }  # fmt: skip
    return recipe(**base | changes)


def go(recipe_: Any, out: Path | None, **options: Any) -> Any:
    torch.manual_seed(0)
    given = {
        "generator": Translator(), "discriminator": Patches(tells=True),
        "task": Paired(Pairs(), Split(48, 0, 0.1)), "screen": Silent(), "out": out,
    }  # fmt: skip
    return train(recipe_, **(given | options))


def test_it_is_summed_over_layers_and_averaged_over_heads() -> None:
    ones = [torch.ones(2, 3, 4), torch.ones(2, 5)]
    made = Judged([torch.zeros(2)] * 2, [x * 3 for x in ones])
    wanted = Judged([torch.zeros(2)] * 2, [ones[0] * 1, ones[1] * -1])
    assert float(FeatureMatching(1.0).loss(made, wanted)) == (2 + 4) / 2


def test_features_are_those_returned_or_those_of_layers() -> None:
    torch.manual_seed(0)
    D, x = Patches(tells=True), torch.randn(2, 1, 8, 8)
    logits, maps = D(x)
    found = FeatureMatching(1.0).judged(D, DiscriminatorCall(("image",), ("0",)), Shown(x))
    assert torch.equal(found.heads[0], logits)
    assert all(torch.equal(a, b) for a, b in zip(found.features, maps, strict=True))
    D.tells = False
    tapped = FeatureMatching(1.0, ("two", "one")).judged(D, DiscriminatorCall(), Shown(x))
    assert torch.equal(tapped.features[0], D.two(maps[0]))
    assert torch.equal(tapped.features[1], D.one(x))


def test_the_value_in_a_run_is_that_of_the_discriminator_as_it_is() -> None:
    """With learning rates of nearly 0 the term can be worked out beside the run."""
    still = {"lr": 1e-12, "betas": [0, 0]}
    given = plan(generator_optim=still, discriminator_optim=still, steps=1)
    torch.manual_seed(0)
    G, D = Translator(), Patches(tells=True)
    task = Paired(Pairs(), Split(48, 0, 0.1))
    result = train(given, generator=G, discriminator=D, task=task, screen=Silent())
    from gancompress.data.order import stream
    from gancompress.tasks.protocol import Draw

    batch = task.batch(Draw(given.batch, 0, stream(given.seed, "step", 0, 0)))
    with torch.no_grad():
        made, wanted = D(G(*batch.inputs))[1], D(batch.wanted)[1]
    expected = sum(float((a - b).abs().mean()) for a, b in zip(made, wanted, strict=True))
    assert result.history[0]["feature_matching"] == pytest.approx(expected, rel=1e-4)


def gradient(weight: float, **more: Any) -> Tensor:
    G = Translator()
    torch.manual_seed(3)
    with torch.no_grad():
        for p in G.parameters():
            p.copy_(torch.randn_like(p) * 0.2)
    # The adversarial part hardly counts beside it.
    quiet = {"adversarial": {"weight": 1e-9}, "feature_matching": {"weight": weight}, "steps": 1}
    go(plan(**quiet, **more), None, generator=G)
    return torch.cat([p.grad.flatten() for p in G.parameters() if p.grad is not None])


def test_the_weight_scales_its_gradient() -> None:
    one, three = gradient(1.0), gradient(3.0)
    assert float(one.abs().max()) > 0
    torch.testing.assert_close(three, 3 * one, rtol=1e-3, atol=1e-6)


def test_both_outputs_get_the_same_augmentation() -> None:
    seen: list[Tensor] = []

    class Watching(Patches):
        def forward(self, x: Tensor) -> Any:
            if self.training:
                seen.append(x.detach().clone())
            return super().forward(x)

    class Exact(nn.Module):
        """Makes the very output that is wanted."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(-1.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    still = {"lr": 1e-12, "betas": [0, 0]}
    given = plan(augment=["color", "translation"], steps=1, generator_optim=still)
    result = go(given, None, generator=Exact(), discriminator=Watching(tells=True))
    assert torch.allclose(seen[-1], seen[-2])
    assert result.history[0]["feature_matching"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("tells", [True, False])
def test_a_run_is_resumed_bit_for_bit(tmp_path: Path, tells: bool) -> None:
    def start(out: Path | None, **options: Any) -> Any:
        torch.manual_seed(0)
        pair = {"generator": Translator(), "discriminator": Patches(tells=tells)}
        return go(plan(), out, **pair, **options)

    whole = start(None)
    assert whole.history[-1]["feature_matching"] > 0
    # Each step of a learning discriminator asks for a batch and for the real ones.
    task = Paired(Pairs(Interrupting(11, signal.SIGTERM)), Split(48, 0, 0.1))
    assert start(tmp_path / "run", task=task).exit_code == 75
    assert digest(start(tmp_path / "run", resume="auto")) == digest(whole)


class Told(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, text: str) -> None:
        self.said.append(text)


def test_where_the_features_are_is_said() -> None:
    screen = Told()
    go(plan(steps=1), None, screen=screen)
    assert "feature matching on the features that the discriminator returns" in screen.said
    go(plan(steps=1), None, screen=screen, discriminator=Patches(tells=False))
    assert "feature matching on one, two" in screen.said or "feature matching on one" in screen.said


def test_what_cannot_work_is_refused_before_any_step() -> None:
    with pytest.raises(ConfigError, match="looks through the discriminator of the run"):
        go(plan(), None, discriminator=None)
    with pytest.raises(ConfigError, match="looks through the discriminator of the run"):
        go(plan(adversarial={"weight": 0.0}), None)
    with pytest.raises(ConfigError, match="no tap 'tow'"):
        go(plan(feature_matching={"weight": 1, "taps": ["tow"]}), None)

    class Noise(Translator):
        def sample_inputs(self, n: int, rng: torch.Generator) -> tuple[Tensor]:
            return (torch.randn(n, 1, 8, 8, generator=rng),)

    G = Noise()
    sampler = InputSampler.of(G)
    with pytest.raises(ConfigError, match="task noise wants no particular output"):
        go(plan(losses=[]), None, generator=G, task=None, sampler=sampler)
