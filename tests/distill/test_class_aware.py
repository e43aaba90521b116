from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.distill import DistillBatch, Taps, build_distiller
from gancompress.distill.bank import ClassBank, class_means
from gancompress.distill.class_gains import ClassGain, find_gain, named_gain
from gancompress.errors import ConfigError, DataError
from gancompress.models import BigGANConfig, BigGANDiscriminator, BigGANGenerator
from tests.distill.toys import CLASSES, Bench, bench

TINY = BigGANConfig(
    resolution=32,
    n_classes=3,
    ch=4,
    dim_z=8,
    shared=True,
    shared_dim=5,
    hier=True,
    image_channels=1,
)


def unit_map(x: np.ndarray) -> np.ndarray:
    rows = (x**2).sum(1).reshape(x.shape[0], -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def value(networks: Bench, batch: DistillBatch | None = None, **options: object) -> float:
    distiller = networks.build("class_aware", **options)
    return float(distiller(batch or networks.batch(distiller)).detach())


def test_plain_is_attention_transfer():
    networks = bench(same=False)
    attention = networks.build("attention")
    expected = float(attention(networks.batch(attention)).detach())
    assert value(networks, variant="plain") == expected


def test_gain_against_numpy():
    networks = bench(same=False)
    distiller = networks.build("class_aware", variant="gain", pairs=["blocks.0"])
    batch = networks.batch(distiller)
    found = []
    for net, activations in ((networks.student, batch.student), (networks.teacher, batch.teacher)):
        table = net.blocks[1].norm.embed.weight.detach().numpy()
        gain = table[batch.labels.numpy()][:, :4]  # the first half of a row; the rest is bias
        found.append(unit_map(activations["blocks.0"].detach().numpy() * gain[:, :, None, None]))
    expected = ((found[0] - found[1]) ** 2).sum(1).mean()
    assert float(distiller(batch).detach()) == pytest.approx(expected, rel=1e-4)


def test_gain_reads_taps_only_where_a_conditional_norm_follows():
    distiller = bench(same=True).build("class_aware", variant="gain")
    first, second, last = distiller.gains.values()
    assert first is not None
    assert first[0] == ClassGain("blocks.1.norm.embed", 0.0, 0)
    assert second is not None
    assert last is None  # the last convolution reads it: matched plainly
    assert ("blocks.2.norm.embed", "blocks.2.norm.embed") in distiller.pairs


def test_class_changes_the_gain_loss_and_not_the_plain_one():
    networks = bench(same=False)
    distiller = networks.build("class_aware", variant="gain", pairs=["blocks.0"])
    batch = networks.batch(distiller)
    gain_path = "blocks.1.norm.embed"
    swapped = {**batch.teacher, gain_path: batch.teacher[gain_path].flip(0)}
    other = dataclasses.replace(batch, teacher=swapped)
    assert float(distiller(batch).detach()) != float(distiller(other).detach())
    plain = networks.build("class_aware", variant="plain", pairs=["blocks.0"])
    assert float(plain(batch).detach()) == float(plain(other).detach())


def test_gradient_reaches_the_students_gains():
    networks = bench(same=False)
    distiller = networks.build("class_aware", variant="gain", pairs=["blocks.0"])
    distiller(networks.batch(distiller)).backward()
    grad = networks.student.blocks[1].norm.embed.weight.grad
    assert grad[:, :4].abs().sum() > 0
    assert grad[:, 4:].abs().sum() == 0  # biases weigh nothing


def test_gains_may_be_named():
    networks = bench(same=True)
    named = networks.build(
        "class_aware", pairs=["blocks.0"], gains={"blocks.0": "blocks.1.norm.embed"}
    )
    found = networks.build("class_aware", variant="gain", pairs=["blocks.0"])
    assert named.gains == found.gains
    with pytest.raises(
        ConfigError, match="'blocks.2.norm.embed' does not scale the channels of tap"
    ):
        networks.build("class_aware", gains={"blocks.0": "blocks.2.norm.embed"})
    with pytest.raises(ConfigError, match="'blocks.7' is not a student tap"):
        networks.build("class_aware", gains={"blocks.7": "blocks.1.norm.embed"})
    with pytest.raises(ConfigError, match="Did you mean 'blocks.1.norm.embed'"):
        networks.build("class_aware", gains={"blocks.0": "blocks.1.norm.embe"})


def test_no_conditional_norm_is_an_error():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1))
    with pytest.raises(ConfigError, match="no conditional norm reads any of"):
        build_distiller(
            "class_aware",
            teacher=net,
            student=net,
            discriminator=None,
            example=(torch.randn(2, 1, 8, 8),),
            variant="gain",
        )


# Conditional norms of other styles: (path of the gain, offset, part).


class Adaptive(nn.Module):
    """AdaIN with one linear for (bias, gain) and 1 + gain."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.style = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2 * c))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        bias, gain = self.style(w)[:, :, None, None].chunk(2, dim=1)
        return F.instance_norm(x) * (1 + gain) + bias


class Film(nn.Module):
    """Two 1x1 convolutions of a condition map, no normalisation, condition by keyword."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.beta = nn.Conv2d(5, c, 1)
        self.gamma = nn.Conv2d(5, c, 1)

    def forward(self, x: Tensor, *, w: Tensor) -> Tensor:
        w = w[:, :, None, None]
        return x * self.gamma(w) + self.beta(w)


class Spade(nn.Module):
    """Gains of a label map, another at each place, beside a bias that varies far more."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c, affine=False)
        self.shared = nn.Conv2d(5, 6, 1)
        self.gamma, self.beta = nn.Conv2d(6, c, 1), nn.Conv2d(6, c, 1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        rows = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1).expand(len(x), 1, *x.shape[2:])
        h = self.shared(w[:, :, None, None] * rows).relu()
        return self.norm(x) * (1 + self.gamma(h)) + 50 * self.beta(h)


class Additive(nn.Module):
    """A condition that only shifts: no gain to be found."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.shift = nn.Linear(5, c)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return x + self.shift(w)[:, :, None, None]


class Reads(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.tap = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = norm
        self.keyword = isinstance(norm, Film)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.tap(x)
        return self.norm(x, w=w) if self.keyword else self.norm(x, w)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (Adaptive(3), ClassGain("norm.style", 1.0, 1)),
        (Film(3), ClassGain("norm.gamma", 0.0, None)),
        (Spade(3), ClassGain("norm.gamma", 1.0, None)),
        (Additive(3), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_gain_is_found_by_what_it_does(norm: nn.Module, expected: ClassGain | None):
    net = Reads(norm)
    found = find_gain(net, "tap", (torch.randn(2, 1, 4, 4), torch.randn(2, 5)))
    if isinstance(norm, Adaptive):  # the last linear returns the same numbers
        assert found is not None
        assert found.path in ("norm.style", "norm.style.2")
        found = dataclasses.replace(found, path="norm.style")
    assert found == expected
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_gains_of_a_place_weigh_the_map() -> None:
    net, images, w = Reads(Spade(3)).eval(), torch.randn(2, 1, 4, 4), torch.randn(2, 5)
    distiller = build_distiller(
        "class_aware", teacher=net, student=net, discriminator=None, example=(images, w),
        pairs=["tap"],
    )  # fmt: skip
    assert distiller.remark == ""
    paths = [s for s, _ in distiller.pairs]
    with Taps(net, paths) as taps:
        out = net(images, w).detach()
        mine = {tap: x.detach() for tap, x in taps.take().items()}
    other = {**mine, "norm.gamma": mine["norm.gamma"] * torch.rand(4, 1)}
    batch = functools.partial(DistillBatch, (images, w), None, out, out, teacher=mine)
    assert float(distiller(batch(student=mine))) == pytest.approx(0, abs=1e-6)
    assert float(distiller(batch(student=other))) > 1e-4


def test_bias_named_as_gain_is_refused():
    net = Reads(Film(3))
    with pytest.raises(ConfigError, match=r"'norm.beta' does not scale .*read .* by 'norm'"):
        named_gain(net, "tap", "norm.beta", (torch.randn(2, 1, 4, 4), torch.randn(2, 5)))


@pytest.mark.parametrize("shared", [True, False])
def test_biggan_gains_are_one_plus_gain(shared: bool):
    config = (
        TINY
        if shared
        else BigGANConfig(resolution=32, n_classes=3, ch=4, dim_z=8, image_channels=1)
    )
    net = BigGANGenerator(config).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    inputs = net.sample_inputs(4, torch.Generator().manual_seed(0))
    assert find_gain(net, "blocks.0.0", inputs) == ClassGain("blocks.1.0.bn1.gain", 1.0, None)
    assert find_gain(net, "blocks.2.0", inputs) is None
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("variant", ["plain", "gain", "prototype", "cam"])
def test_every_variant_on_biggan(variant: str):
    teacher, discriminator = BigGANGenerator(TINY).eval(), BigGANDiscriminator(TINY)
    student = BigGANGenerator(TINY)
    rng = torch.Generator().manual_seed(0)
    inputs = teacher.sample_inputs(4, rng)
    distiller = build_distiller(
        "class_aware",
        teacher=teacher,
        student=student,
        discriminator=discriminator,
        example=inputs,
        variant=variant,
    )
    from gancompress.distill import Taps

    with Taps(teacher, dict(distiller.pairs)) as a, Taps(student, dict(distiller.pairs)) as b:
        with torch.no_grad():
            wanted = teacher(*inputs)
        images = student(*inputs)
        batch = DistillBatch(inputs, inputs[1], images, wanted, b.take(), a.take())
    loss = distiller(batch)
    loss.backward()
    assert 0 < float(loss.detach()) < 4
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_prototype_first_step_against_numpy():
    networks = bench(same=False)
    distiller = networks.build("class_aware", variant="prototype", pairs=["blocks.1"])
    batch = networks.batch(distiller, n=8)
    labels = batch.labels.numpy()
    gaps = []
    for k in np.unique(labels):
        means = [
            unit_map(side["blocks.1"].detach().numpy())[labels == k].mean(0)
            for side in (batch.student, batch.teacher)
        ]
        gaps.append(((means[0] - means[1]) ** 2).sum())
    assert float(distiller(batch).detach()) == pytest.approx(np.mean(gaps), rel=1e-4)


def test_bank_is_a_moving_average_with_the_gradient_of_the_batch():
    bank = ClassBank(0.75)
    one, two = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]], requires_grad=True)
    k = torch.tensor([2])
    assert bank(k, one).tolist() == [[1, 0]]
    mixed = bank(k, two)
    assert mixed.tolist() == [[0.75, 0.25]]
    mixed.sum().backward()
    assert two.grad.tolist() == [[1, 1]]
    assert bank.rows.tolist() == [[0, 0], [0, 0], [0.75, 0.25]]
    assert bank.seen.tolist() == [False, False, True]
    assert bank(torch.tensor([5]), one).tolist() == [[1, 0]]
    assert bank.rows.shape == (6, 2)


def test_bank_stands_still_in_eval_mode():
    bank = ClassBank(0.5)
    bank(torch.tensor([0]), torch.ones(1, 2))
    bank.eval()
    assert bank(torch.tensor([0]), torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    assert bank.rows.tolist() == [[1, 1]]


def test_bank_state_takes_the_size_it_was_saved_with():
    bank, other = ClassBank(0.5), ClassBank(0.5)
    bank(torch.tensor([3]), torch.ones(1, 2))
    other(torch.tensor([0]), torch.zeros(1, 2))
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.rows, bank.rows)
    assert torch.equal(other.seen, bank.seen)


def test_class_means():
    rows = torch.tensor([[1.0], [2.0], [5.0], [4.0]])
    means, share = class_means(rows, torch.tensor([7, 1, 7, 2]))
    assert means.tolist() == [[3], [2], [3], [4]]
    assert share.tolist() == pytest.approx([1 / 6, 1 / 3, 1 / 6, 1 / 3]), "each class counts alike"


def test_prototype_and_cam_need_labels():
    networks = bench(same=False)
    for variant in ("prototype", "cam"):
        distiller = networks.build("class_aware", variant=variant)
        batch = dataclasses.replace(networks.batch(distiller), labels=None)
        with pytest.raises(DataError, match=f"'{variant}' needs class labels"):
            distiller(batch)


def test_cam_against_numpy():
    networks = bench(same=False)
    distiller = networks.build("class_aware", variant="cam")
    assert distiller.pairs == ()
    batch = networks.batch(distiller)
    d = networks.discriminator
    weights = d.linear.weight.detach() + d.embed.weight.detach()[batch.labels]
    found = []
    for images in (batch.student_images.detach(), batch.teacher_images):
        hidden = F.relu(d.second(F.relu(d.first(images)))).detach()
        # The class activation map: the head's weights for y on the last features.
        rows = np.einsum("nc,nchw->nhw", weights.numpy(), hidden.numpy()).reshape(len(images), -1)
        found.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    expected = ((found[0] - found[1]) ** 2).sum(1).mean()
    assert float(distiller(batch).detach()) == pytest.approx(expected, rel=1e-4)


def test_cam_depends_on_the_class():
    networks = bench(same=False)
    distiller = networks.build("class_aware", variant="cam")
    batch = networks.batch(distiller)
    other = dataclasses.replace(batch, labels=(batch.labels + 1) % CLASSES)
    assert float(distiller(batch).detach()) != float(distiller(other).detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "gains"}, "'plain', 'gain', 'prototype' or 'cam', not 'gains'"),
        ({"variant": "plain", "gains": {}}, "'gains' has no meaning for variant 'plain'"),
        ({"variant": "cam", "pairs": ["blocks.0"]}, "'pairs' has no meaning for variant 'cam'"),
        ({"variant": "gain", "taps": ["first"]}, "'taps' has no meaning for variant 'gain'"),
        (
            {"variant": "prototype", "momentum": 1.0},
            "'momentum': input .* less than 1, not 1.0",
        ),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        bench(same=True).build("class_aware", **options)
