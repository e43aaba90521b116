"""Companions of the loop, and scores that look at the generator: what they do, refuse, and save."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gancompress as gc
from gancompress.data.arrays import ArrayDataset
from gancompress.errors import ConfigError
from gancompress.plugins.kinds import COMPANIONS, SCORES
from gancompress.recipes.load import load_recipe
from gancompress.recipes.schema import Recipe
from gancompress.training.callbacks import Happening
from gancompress.training.companions.balance import won_pairs
from gancompress.training.log import Silent
from gancompress.training.loop import train
from gancompress.training.scores.content_aware import salted
from tests.training.nets import CLASSES, images, networks

QUIET = ("batch=4", "sample_every=0", "checkpoint_every=2", "log_every=1", "precision=float32",
         "channels_last=false", "augment=[]", "ema={decay: 0.5, start: 1}")  # fmt: skip


def recipe(name: str, *words: str) -> Recipe:
    few = ["steps=6", "finetune_steps=2"] if load_recipe(name).kind == "prune" else ["steps=8"]
    return load_recipe(name, [*QUIET, *few, "target=params=1.5x", *words])


def run(made: Recipe, out: Path | None = None, **more: Any) -> tuple[nn.Module, Any]:
    generator, discriminator = networks()
    given = {"generator": generator, "discriminator": discriminator, "dataset": images()} | more
    return generator, train(made, out=out, screen=Silent(), **given)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


class Stopping:
    """The images, and a signal to our own process when batch number ``at`` is asked for."""

    def __init__(self, at: int) -> None:
        self.inner, self.left = images(), at
        self.n_classes, self.channels, self.resolution = 3, 1, 8

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.inner.batch(indices)


WITH = {
    "balance": ("magnitude", "distill=[pixel]", "companions=[{name: balance, policy: slow}]"),
    "gates": ("magnitude", "distill=[pixel]", "companions=[{name: gates}]"),
    "online_teacher": ("omgd", "distill=[pixel]", "companions=[{name: online_teacher, every: 2}]"),
    "sampled_widths": (
        "gan-compression", "distill=[pixel]",
        "companions=[{name: sampled_widths, until: 0.5, trials: 6}]",
    ),
}  # fmt: skip


def test_every_companion_and_score_is_tried_here() -> None:
    assert set(WITH) == set(COMPANIONS.names())
    assert SCORES.names() == ["content_aware", "diversity", "residual"]  # test_residual_score.py


@pytest.mark.parametrize("name", WITH)
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    made = recipe(*WITH[name])
    _, whole = run(made, tmp_path / "whole")
    _, _ = run(made, tmp_path / "cut", dataset=Stopping(5))
    _, again = run(made, tmp_path / "cut", resume="auto")
    assert again.history[-1]["step"] == whole.history[-1]["step"]
    for key, value in whole.generator.state_dict().items():
        assert torch.equal(value, again.generator.state_dict()[key]), key


@pytest.mark.slow
def test_a_run_that_goes_back_to_a_good_width_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    """Stopped between the last moment that it returns to and the return."""
    words = (
        "schedule={name: linear, start: 0.0, end: 0.5}", "shrink.events=[]", "distill=[pixel]",
        "companions=[{name: balance, policy: back, limit: 0.6, memory: 0.8}]", "steps=20",
        "finetune_steps=2", "checkpoint_every=1", "discriminator_optim.lr=1.0e-6",
    )  # fmt: skip

    def seeded() -> Unbeaten:
        torch.manual_seed(0)  # its bias is drawn
        return Unbeaten()

    made, more = recipe("magnitude", *words), {"discriminator": seeded()}
    _, whole = run(made, tmp_path / "whole", dataset=bright_images(), **more)
    (loses, *_) = [e["step"] for e in events(tmp_path / "whole", "balance") if e["loses"]]

    def stop(happening: Happening) -> None:
        if happening.kind == "figures" and happening.step == loses - 2:
            os.kill(os.getpid(), signal.SIGTERM)

    more = {"dataset": bright_images(), "discriminator": seeded()}
    _, cut = run(made, tmp_path / "cut", callbacks=[stop], **more)
    assert cut.history[-1]["step"] == loses - 1
    more = {"dataset": bright_images(), "discriminator": seeded()}
    _, again = run(made, tmp_path / "cut", resume="auto", **more)
    sizes = [line["params"] for line in again.history if "params" in line]
    assert any(b > a for a, b in zip(sizes, sizes[1:], strict=False)), "channels came back"
    assert again.history == whole.history
    assert again.plan == whole.plan
    for key, value in whole.generator.state_dict().items():
        assert torch.equal(value, again.generator.state_dict()[key]), key


# -- balance ---------------------------------------------------------------------------------------
def test_the_share_of_won_pairs_is_counted() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(0, 5, (n,), generator=rng).double() for n in (7, 11))
    pairs = [1.0 if r > f else 0.5 if r == f else 0.0 for r in real for f in fake]
    assert won_pairs(real, fake) == pytest.approx(np.mean(pairs))
    assert won_pairs(torch.ones(3), torch.zeros(3)) == 1.0


def bright_images() -> ArrayDataset:
    return ArrayDataset(
        torch.full((18, 1, 8, 8), 255, dtype=torch.uint8), torch.arange(18) % CLASSES, CLASSES
    )


class Unbeaten(nn.Module):
    """Sees through everything the generator makes: the data of this test is far from [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.conv.weight.fill_(9.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((1, 2, 3))


@pytest.mark.parametrize("policy", ["watch", "slow", "gate", "back"])
def test_a_losing_generator_is_helped_and_the_log_says_why(policy: str, tmp_path: Path) -> None:
    words = (
        "schedule={name: linear, start: 0.0, end: 0.9}", "shrink.events=[]", "distill=[pixel]",
        f"companions=[{{name: balance, policy: {policy}, limit: 0.6, memory: 0.5}}]",
        "steps=20", "finetune_steps=2", "checkpoint_every=0", "discriminator_optim.lr=1.0e-6",
    )  # fmt: skip
    judge = Unbeaten()
    bright = bright_images()
    generator, result = run(
        recipe("magnitude", *words), tmp_path / "run", discriminator=judge, dataset=bright
    )
    told = events(tmp_path / "run", "balance")
    assert told
    assert told[0]["loses"]
    assert "of all pairs apart" in told[0]["text"]
    assert told[0]["won"] > 0.6
    assert told[0]["cause"] in told[0]["text"]
    # Whatever was done meanwhile, the target is reached, exactly.
    assert result.plan is not None
    assert result.verified["passed"]
    left = {line["step"]: line["params"] for line in result.history if "params" in line}
    if policy == "slow":
        plain = recipe("magnitude", *words[:3], *words[4:])
        _, other = run(plain, discriminator=Unbeaten(), dataset=bright)
        straight = {line["step"]: line["params"] for line in other.history if "params" in line}
        assert any(left[s] > straight[s] for s in range(2, 19)), "the schedule waited"
        assert all(left[s] >= straight[s] for s in range(2, 19))
    if policy == "gate":
        (first,) = [e["step"] for e in told][:1]
        assert first < 20
    if policy == "back":
        assert any(left[s + 1] > left[s] for s in range(1, 19)), "channels came back"


def test_gated_the_discriminator_stands_still(tmp_path: Path) -> None:
    judge = Unbeaten()
    before = judge.conv.weight.detach().clone()
    bright = bright_images()
    words = ("companions=[{name: balance, policy: gate, limit: 0.51, memory: 0.001}]",
             "distill=[pixel]", "adversarial.loss=wgan")  # fmt: skip
    run(recipe("magnitude", *words, "discriminator_optim.lr=0.01"), None,
        discriminator=judge, dataset=bright)  # fmt: skip
    # It moved in the first two steps, before the means had been made, and never again.
    assert 0 < float((judge.conv.weight.detach() - before).abs().max()) < 0.03


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("narrow", ("companions=[balance]",), "kind distill has none"),
        ("magnitude", ("companions=[balance]", "discriminator.policy=frozen"), "that learns"),
        ("magnitude", ("companions=[gates]", "discriminator.policy=frozen"), "that learns"),
        ("magnitude", ("companions=[gates]", "shrink.discriminator=true"), "both make the"),
        ("omgd", ("discriminator.real=teacher",), "would learn from itself"),
        ("narrow", ("companions=[sampled_widths]",), "it needs kind prune"),
        ("magnitude", ("companions=[sampled_widths]",), "set schedule.start later"),
        ("magnitude", ("companions=[{name: gates, treshold: 1}]",), "Did you mean 'threshold'"),
        ("magnitude", ("companions=[gate]",), "no companion named 'gate'"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(
    name: str, words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        run(recipe(name, "distill=[pixel]", *words))


def test_an_online_teacher_needs_data_and_a_discriminator() -> None:
    made = recipe("omgd", "distill=[pixel]")
    with pytest.raises(ConfigError, match="needs real data"):
        run(made, dataset=None)
    with pytest.raises(ConfigError, match="needs a discriminator"):
        run(made, discriminator=None)


def test_the_online_teacher_learns_and_the_student_has_no_discriminator() -> None:
    generator, discriminator = networks()
    teacher = networks()[0]
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    judge = {k: v.clone() for k, v in discriminator.state_dict().items()}
    result = train(
        recipe("omgd", "distill=[pixel]"), generator=generator, discriminator=discriminator,
        teacher=teacher, dataset=images(), out=None, screen=Silent(),
    )  # fmt: skip
    assert any(not torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(torch.equal(v, judge[k]) for k, v in discriminator.state_dict().items())
    assert "g_loss" not in result.history[-1]
    assert not any(m._forward_hooks for m in teacher.modules())


def test_gates_leave_the_discriminator_as_they_found_it() -> None:
    generator, discriminator = networks()
    keys = list(discriminator.state_dict())
    train(
        recipe(*WITH["gates"]), generator=generator, discriminator=discriminator,
        dataset=images(), out=None, screen=Silent(),
    )  # fmt: skip
    assert list(discriminator.state_dict()) == keys
    assert not any(m._forward_hooks for m in discriminator.modules())


def test_the_search_takes_the_best_of_its_trials_and_lands(tmp_path: Path) -> None:
    _, result = run(recipe(*WITH["sampled_widths"]), tmp_path / "run")
    (told,) = events(tmp_path / "run", "search")
    assert result.plan is not None
    assert told["difference"] > 0
    assert result.verified["passed"]
    assert told["widths"] == {n: result.plan.widths[n] for n in told["widths"]}
    whole = sum(p.numel() for p in networks()[0].parameters())
    size = sum(p.numel() for p in result.generator.parameters())
    assert 0.8 * whole / 1.5 <= size <= whole / 1.5


# -- scores ----------------------------------------------------------------------------------------
class Two(nn.Module):
    """Four channels of which two do nothing to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.last = nn.Conv2d(1, 3, 1)
        self.mix = nn.Linear(4, 64)
        with torch.no_grad():
            self.mix.weight[:, :2] *= 0.01
            self.first.weight[:2] *= 0.01

    def forward(self, z: Tensor) -> Tensor:
        x = torch.relu(self.first(z) + 1)
        return torch.tanh(self.last(self.mix(x).view(-1, 1, 8, 8)))


@pytest.mark.parametrize("name", ["content-aware", "dcp"])
def test_scores_order_the_channels_before_the_first_step(name: str) -> None:
    torch.manual_seed(0)
    made = recipe(name, "distill=[pixel]", "target=params=1.3x", "steps=2", "finetune_steps=0")
    sampler = gc.InputSampler.parse(["z=normal(5)"])
    network, judge = Two(), nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    random = torch.random.get_rng_state()
    result = train(
        made, generator=network, discriminator=judge, sampler=sampler, out=None, screen=Silent()
    )
    assert torch.equal(torch.random.get_rng_state(), random)
    assert result.plan is not None
    kept = next(iter(result.plan.keep.values()))
    assert len(kept) < 4


def test_salt_and_pepper_stay_in_the_middle() -> None:
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    noisy = salted(x, 0.3, 0.5, torch.Generator().manual_seed(0))
    changed = (noisy != x).any(1)
    assert not changed[:, :4].any()
    assert not changed[:, :, 12:].any()
    assert 0.2 < float(changed[:, 4:12, 4:12].float().mean()) < 0.4
    assert set(noisy[(noisy != x)].unique().tolist()) <= {float(x.min()), float(x.max())}


def test_dcp_needs_latents_and_says_so() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    sampler = gc.InputSampler.parse(["x=uniform(1,8,8)"])
    made = recipe("dcp", "distill=[pixel]", "adversarial.weight=0")
    with pytest.raises(ConfigError, match="the generator takes none"):
        train(made, generator=net, sampler=sampler, out=None, screen=Silent())


def test_score_belongs_to_masks() -> None:
    with pytest.raises(ConfigError, match="kind prune"):
        load_recipe("narrow", ["score=content_aware"])
    with pytest.raises(ConfigError, match="no score named 'contentaware'.*content_aware"):
        load_recipe("ppcd", ["score=contentaware"])
