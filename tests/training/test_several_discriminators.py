"""Several discriminators in one run: each called in its own way, all heads averaged."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, DataError
from gancompress.models.hifigan import MultiPeriodDiscriminator, MultiScaleDiscriminator
from gancompress.modules.discriminator import DiscriminatorCall, call_of, describe_call, use_call
from gancompress.modules.joint_discriminator import JointDiscriminator, joined
from gancompress.training.checkpoint import latest_checkpoint
from gancompress.training.discriminator_shrink import Narrowing
from gancompress.training.log import Silent
from gancompress.training.loop import train
from tests.training.nets import TinyDiscriminator, images, networks, recipe, train_recipe
from tests.training.test_resume import Interrupting, digest


class Unlabelled(nn.Module):
    """Images (n, 1, h, w) to patches."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


class Conditional(nn.Module):
    """Condition and image, by name, to (logits, features)."""

    def forward(self, image: Tensor, condition: Tensor) -> tuple[Tensor, list[Tensor]]:
        product = image * condition
        return product.mean((1, 2, 3))[:, None], [product, image]


def test_members_are_called_each_in_its_own_way_and_their_heads_are_one_list() -> None:
    torch.manual_seed(0)
    labelled, plain, conditional = TinyDiscriminator().eval(), Unlabelled(), Conditional()
    joint = joined({"class": labelled, "patch": plain, "pair": conditional})
    assert isinstance(joint, JointDiscriminator)
    x, y, c = torch.randn(2, 1, 8, 8), torch.tensor([2, 0]), torch.randn(2, 1, 8, 8)
    use_call(conditional, DiscriminatorCall.parse("image, condition -> 0"))
    call = call_of(joint, x, y, c)
    heads = call(joint, image=x, label=y, condition=c)
    expected = [labelled(x, y), plain(x), (x * c).mean((1, 2, 3))[:, None]]
    for head, wanted in zip(heads, expected, strict=True):
        assert torch.equal(head, wanted)
    positional, keywords = call.bind(image=x, label=y, condition=c)
    features = call.read_features(joint(*positional, **keywords))
    assert [tuple(f.shape) for f in features] == [(2, 1, 8, 8)] * 2
    assert describe_call(joint, x, y, c) == (
        "TinyDiscriminator(image, label); Unlabelled(image); Conditional(image, condition -> 0)"
    )
    assert {n.split(".")[1] for n in joint.state_dict()} == {"class", "patch"}


def test_what_cannot_be_joined_is_named() -> None:
    one = Unlabelled()
    assert joined([one]) is one
    assert joined(None) is None
    for given, message in (
        ([], "empty list"),
        ([one, one], "twice"),
        ([one, Unlabelled], "discriminator 1 is a type"),
        ({"a.b": one, "c": Unlabelled()}, "has no dot"),
    ):
        with pytest.raises(ConfigError, match=message):
            joined(given)  # type: ignore[arg-type]

    class Needs(nn.Module):
        def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            return x

    joint = joined([one, Needs()])
    assert joint is not None
    with pytest.raises(DataError, match="Needs asks for 'y', 'z'"):
        call_of(joint, torch.randn(2, 1, 8, 8))


def test_a_copy_is_called_as_the_first_one_is() -> None:
    import copy

    joint = joined([Unlabelled(), Conditional()])
    assert joint is not None
    x = torch.randn(2, 1, 8, 8)
    use_call(joint.members["1"], DiscriminatorCall(("image", "image"), ("0",)))  # type: ignore
    call = call_of(joint, x)
    twin = copy.deepcopy(joint)
    for a, b in zip(call(joint, image=x), call(twin, image=x), strict=True):
        assert torch.equal(a, b)


def test_the_loss_is_the_mean_over_all_heads() -> None:
    """One discriminator given twice over (equal copies) trains like the one alone."""
    one, two, alone = Unlabelled(), Unlabelled(), Unlabelled()
    for copy in (two, alone):
        copy.load_state_dict(one.state_dict())
    plan = train_recipe(steps=4, augment=[])
    results = [
        train(plan, generator=networks()[0], discriminator=given, dataset=images(), screen=Silent())
        for given in ([one, two], alone)
    ]
    for a, b in zip(results[0].history, results[1].history, strict=True):
        assert a["g_loss"] == pytest.approx(b["g_loss"], rel=1e-3, abs=1e-4)
        assert a["d_loss"] == pytest.approx(b["d_loss"], rel=1e-3, abs=1e-4)


PLANS = {
    "prune": recipe(shrink={"events": [0.4, 0.7], "discriminator": True}),
    "distill": recipe(
        kind="distill", student={"init": "narrow"}, finetune_steps=0, shrink={"events": []},
        distill=[{"name": "discriminator_features"}],
        regularisers=[{"name": "r1", "weight": 0.5, "every": 2}],
    ),
}  # fmt: skip


def go(plan: Any, out: Path | None, **options: Any) -> Any:
    generator, discriminator = networks()
    given = {
        "generator": generator, "discriminator": [discriminator, Unlabelled()],
        "dataset": images(), "screen": Silent(), "out": out,
    }  # fmt: skip
    return train(plan, **(given | options))


@pytest.mark.parametrize("name", sorted(PLANS))
def test_a_run_is_resumed_bit_for_bit(tmp_path: Path, name: str) -> None:
    whole = go(PLANS[name], tmp_path / "whole")
    assert go(PLANS[name], tmp_path / "run", dataset=Interrupting(7, signal.SIGTERM)).exit_code
    assert digest(go(PLANS[name], tmp_path / "run", resume="auto")) == digest(whole)
    found = latest_checkpoint(tmp_path / "run" / "ckpt")[0]
    assert found is not None
    assert {n.split(".")[1] for n in found.parts["discriminator"]} == {"0", "1"}


def test_each_member_is_narrowed() -> None:
    torch.manual_seed(0)
    joint = joined([Unlabelled(32), Unlabelled(16)])
    assert joint is not None
    x = torch.randn(2, 1, 8, 8)
    positional, keywords = call_of(joint, x).bind(image=x)
    narrowing = Narrowing(joint, positional, keywords)
    from gancompress.graph.groups import Cost

    assert narrowing.follow(Cost(params=25, macs=25), Cost(params=100, macs=100))
    widths = [m.first.out_channels for m in joint.members.values()]  # type: ignore[union-attr]
    assert widths[0] < 32
    assert widths[1] < 16
    assert [tuple(h.shape) for h in call_of(joint, x)(joint, image=x)] == [(2, 1, 8, 8)] * 2


def test_multi_period_beside_multi_scale() -> None:
    torch.manual_seed(0)
    joint = joined({"mpd": MultiPeriodDiscriminator(), "msd": MultiScaleDiscriminator()})
    assert joint is not None
    sound = torch.randn(2, 1, 512) * 0.1
    call = call_of(joint, sound)
    with torch.no_grad():
        heads = call(joint, image=sound)
        features = call.read_features(joint(sound))
    assert len(heads) == 5 + 3
    assert all(head.ndim == 2 and len(head) == 2 for head in heads)
    assert len(features) == 5 * 6 + 3 * 8
    assert sum(n.startswith("members.mpd.") for n in joint.state_dict()) > 50


class Published(nn.Module):
    """The form of the public HiFi-GAN code: both sounds in, four lists out."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv1d(1, 1, k, padding=k // 2) for k in (3, 5))

    def forward(self, y: Tensor, y_hat: Tensor) -> tuple[list[Tensor], ...]:
        real = [head(y) for head in self.heads]
        made = [head(y_hat) for head in self.heads]
        return (
            [x.flatten(1) for x in real], [x.flatten(1) for x in made],
            [[x] for x in real], [[x, x] for x in made],
        )  # fmt: skip


def test_a_discriminator_of_both_sounds_at_once_is_said() -> None:
    D, sound = Published(), torch.randn(2, 1, 16)
    with pytest.raises(DataError, match=r"'image, image -> 1\.\*'"):
        call_of(D, sound)
    call = DiscriminatorCall.parse("image, image -> 1.* features 3.*.*")
    assert str(call) == "image, image -> 1.* features 3.*.*"
    use_call(D, call)
    heads = call_of(D, sound)(D, image=sound)
    for head, conv in zip(heads, D.heads, strict=True):
        assert torch.equal(head, conv(sound).flatten(1))
    assert len(call.read_features(D(sound, sound))) == 4
    with pytest.raises(ConfigError, match="output 'x!' is not understood"):
        DiscriminatorCall.parse("image -> 0 features x!")
