"""Constants and choices of the distillers, each against a second, plain computation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.distill import DISTILLERS, DistillBatch, Taps
from gancompress.distill.class_gains import ClassGain, find_gain
from gancompress.distill.maths import attention_map
from gancompress.distill.strategies.relational import cosine_matrix
from gancompress.errors import ConfigError
from gancompress.recipes.parts import Weighted
from gancompress.training.distillation import Distillation
from tests.distill.toys import Bench, bench


def loss_of(networks: Bench, entries: list[dict], seen: int = 6) -> tuple[float, Tensor]:
    """Return the loss of a recipe's entries on 6 samples, and the labels that it was given."""
    own = Distillation(
        [Weighted.model_validate(e) for e in entries], teacher=networks.teacher,
        student=networks.student, discriminator=networks.discriminator, example=networks.example,
    )  # fmt: skip
    rng = torch.Generator().manual_seed(4)
    z = torch.randn(6, networks.example[0].shape[1], generator=rng)
    y = torch.tensor([0, 0, 1, 2, 1, 0])
    with torch.no_grad():
        wanted = networks.teacher(z[:seen], y[:seen])
        found = networks.student(z, y)
        loss = own.loss(inputs=(z, y), labels=y, student_images=found, teacher_images=wanted)
    own.remove()
    return float(loss), y


def test_weights_multiply_each_distiller() -> None:
    networks = bench(same=False)
    alone = {
        name: loss_of(networks, [{"name": name}])[0] for name in ("pixel", "attention", "feature")
    }
    for weights in ((1, 1, 1), (0, 2, 0.5), (3, 0.25, 10)):
        entries = [{"name": n, "weight": w} for n, w in zip(alone, weights, strict=True)]
        expected = sum(w * alone[n] for n, w in zip(alone, weights, strict=True))
        assert loss_of(networks, entries)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("entry", [
    {"name": "class_aware", "variant": "prototype"},
    {"name": "class_aware", "variant": "cam"},
])  # fmt: skip
def test_a_share_of_the_batch_has_its_own_labels(entry: dict) -> None:
    networks = bench(same=False)
    part, y = loss_of(networks, [entry], seen=3)
    rng = torch.Generator().manual_seed(4)
    z = torch.randn(6, networks.example[0].shape[1], generator=rng)[:3]
    distiller = networks.build(**entry)

    def of(labels: Tensor) -> float:
        pairs = [s for s, _ in distiller.pairs]
        with torch.no_grad(), Taps(networks.student, pairs) as a:
            found, own = networks.student(z, y[:3]), a.take()
        with torch.no_grad(), Taps(networks.teacher, dict(distiller.pairs)) as b:
            wanted, theirs = networks.teacher(z, y[:3]), b.take()
        fresh = networks.build(**entry)
        with torch.no_grad():
            return float(fresh(DistillBatch((z, y[:3]), labels, found, wanted, own, theirs)))

    assert part == pytest.approx(of(y[:3]), rel=1e-4)
    assert part != pytest.approx(of(y[3:]), rel=1e-4), "the test could not tell"


class OneMore(nn.Module):
    """Scales its input by 1 + gain(y), channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Linear(2, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * (1 + self.gain(y)).view(len(y), 3, 1, 1)


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3, padding=1), OneMore()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.norm(self.conv(x), y)


def test_a_gain_beside_one_is_one_plus_the_gain() -> None:
    torch.manual_seed(0)
    net, y = Conditional(), torch.randn(4, 2)
    found = find_gain(net, "conv", (torch.randn(4, 1, 5, 5), y))
    assert found is not None
    assert (found.path, found.offset) == ("norm.gain", 1.0)
    output = net.norm.gain(y)
    torch.testing.assert_close(found.of(output), 1 + output)
    halves = ClassGain("x", 0.5, 1).of(torch.tensor([[1.0, 2.0, 30.0, 40.0]]))
    assert halves.tolist() == [[30.5, 40.5]]


def test_co_attention_is_half_the_discriminators_map_of_the_students_image() -> None:
    networks = bench(same=False)
    distiller = networks.build("co_attention", pairs=["blocks.1"], taps=["first"])
    batch = networks.batch(distiller)
    with torch.no_grad():
        seen = networks.discriminator.eval().first(batch.student_images)
        energy = seen.square().mean(1, keepdim=True)
        student, teacher = batch.recorded("blocks.1")
        energy = F.interpolate(
            energy, size=student.shape[2:], mode="bilinear", align_corners=False
        ).flatten(1)
        target = 0.5 * attention_map(teacher) + 0.5 * F.normalize(energy, dim=1)
        gap = attention_map(student) - F.normalize(target, dim=1)
        expected = gap.square().sum(1).mean()
        torch.testing.assert_close(distiller(batch), expected)
        other = F.normalize(networks.discriminator.first(batch.teacher_images).square().mean(
            1, keepdim=True).flatten(1), dim=1)  # fmt: skip
        assert not torch.allclose(other, F.normalize(seen.square().mean(1).flatten(1), dim=1))


@pytest.mark.parametrize("name", ["discriminator_features", "co_attention"])
def test_the_observing_discriminator_is_in_eval_mode_and_apart(name: str) -> None:
    networks = bench(same=False)
    networks.discriminator.first = nn.Sequential(networks.discriminator.first, nn.Dropout(0.5))
    networks.discriminator.train()
    distiller = networks.build(name)
    batch = networks.batch(distiller)
    with torch.no_grad():
        assert torch.equal(distiller(batch), distiller(batch)), "no dropout while it looks on"
    assert networks.discriminator.training
    assert all(not part.training for part in distiller.discriminator.network.modules())


def test_the_cosine_relation_is_a_mean_over_other_samples() -> None:
    networks = bench(same=False)
    distiller = networks.build("relational", pairs=["blocks.0"])
    batch = networks.batch(distiller, n=3)
    student, teacher = batch.pair("blocks.0")
    gap = (cosine_matrix(student) - cosine_matrix(teacher)).detach()
    pairs = [float(gap[i, j]) ** 2 for i in range(3) for j in range(3) if i != j]
    assert distiller(batch).item() == pytest.approx(sum(pairs) / 6, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("pixel", {"norm": "l3"}, "'l1' or 'l2'"),
        ("attention", {"reduction": "max"}, "'sum' or 'mean'"),
        ("latent_direction", {"samples": 1, "count": 0}, "'samples'.*'count'"),
        ("latent_direction", {"strength": 0}, "greater than 0"),
        ("class_aware", {"momentum": 1}, "less than 1"),
        ("class_aware", {"variant": "plain", "taps": ["first"]}, "no meaning for variant 'plain'"),
        ("relational", {"seed": 1.5}, "integer"),
        ("feature", {"pairs": "blocks.0"}, "'pairs'"),
    ],
)
def test_options_are_checked_the_same_with_and_without_networks(
    name: str, options: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        bench(same=True).build(name, **options)
    assert DISTILLERS.faults({"name": name, **options})
