"""What compression took away: nothing from a copy, and the very class that was broken."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from gancompress.data.fashion import CLASSES
from gancompress.data.inputs import InputSampler
from gancompress.errors import DataError
from gancompress.metrics.evaluate import evaluate
from gancompress.metrics.features import Described, EmbeddedFeatures, describe_all
from gancompress.metrics.latents import latent_toll
from gancompress.metrics.sampling import draw
from gancompress.metrics.taken import Toll, mean_distance, what_was_taken
from gancompress.models.embedded import embedded_generator
from gancompress.reporting.taken_table import taken_table

BROKEN = 3


class OneClassBroken(nn.Module):
    """The teacher, whose samples of one class all look like that of one latent."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        hit = y == BROKEN
        z = torch.where(hit[:, None], torch.zeros_like(z), z)
        return self.teacher(z, torch.where(hit, torch.full_like(y, 8), y))


def test_a_copy_lost_nothing_and_a_broken_class_is_named_first() -> None:
    teacher = embedded_generator()
    sampler = InputSampler.of(teacher)
    same = what_was_taken(teacher, copy.deepcopy(teacher), sampler, n=160, latents=0)
    assert len(same.classes) == 10
    for one in same.classes:
        assert one.frechet == pytest.approx(0, abs=1e-6)
        assert one.floor > 0.01
        assert one.diversity == pytest.approx(1)
        assert one.agreement == pytest.approx(0, abs=1e-6)
        assert one.accuracy == one.teacher_accuracy
    assert same.lost == ()
    assert sum(c.n for c in same.classes) == 160

    broken = what_was_taken(teacher, OneClassBroken(teacher), sampler, n=160, latents=4)
    worst = broken.classes[0]
    assert worst.label == BROKEN
    assert worst.diversity < 0.05
    assert worst.accuracy == 0.0
    assert broken.lost == (BROKEN,)
    assert all(c.diversity == pytest.approx(1) for c in broken.classes[1:])
    labels = sampler.labels(sampler(160, torch.Generator().manual_seed(0)))
    assert labels is not None
    assert all(int(labels[i]) == BROKEN for i in broken.worst)
    assert list(broken.distances) == sorted(broken.distances, reverse=True)
    table = taken_table(broken, CLASSES)
    assert table.rows[0][0] == CLASSES[BROKEN]
    assert "1 classes lost more than half" in table.note
    assert "lost more" not in taken_table(same).note
    assert Toll.of_record(json.loads(json.dumps(broken.record()))) == broken
    assert "Around one latent" in table.note
    older = {k: v for k, v in broken.record().items() if k != "latents"}
    assert Toll.of_record(older).latents is None
    assert taken_table(broken, ["one name"]).rows[0][0] == str(BROKEN), "a name that is not there"


class Dull(nn.Module):
    """The teacher, deaf to a part of its latent for every second sample."""

    def __init__(self, teacher: nn.Module, share: float) -> None:
        super().__init__()
        self.teacher, self.share = teacher, share

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        z = z.clone()
        z[::2] *= self.share
        return self.teacher(z, y)


def test_a_student_that_no_longer_follows_its_latent_is_found_latent_by_latent() -> None:
    teacher, view = embedded_generator(), EmbeddedFeatures()
    sampler = InputSampler.of(teacher)
    same = latent_toll(teacher, copy.deepcopy(teacher), sampler, view, n=16)
    assert same is not None
    assert same.mean == pytest.approx(1)
    assert same.dull == 0
    deaf = latent_toll(teacher, Dull(teacher, 0.0), sampler, view, n=16)
    assert deaf is not None
    assert deaf.dull == 8
    assert sorted(deaf.worst) == list(range(0, 16, 2))
    assert max(deaf.ratios) < 1e-6
    assert deaf.mean == pytest.approx(0.5)
    assert latent_toll(teacher, teacher, Labels(), view, n=4) is None


class Labels:
    """Draws classes alone."""

    def __call__(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.randint(3, (n,), generator=rng),)

    def labels(self, inputs: object) -> Tensor | None:
        return None


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 32 * 32)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.linear(z)).view(-1, 1, 32, 32)


class Means:
    """Features that know no classes: the mean of each row."""

    name, n_classes = "means", 0

    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        return images.mean((1, 3)).double(), None


def test_samples_that_were_described_already_are_not_made_again() -> None:
    teacher = embedded_generator()
    sampler, view = InputSampler.of(teacher), EmbeddedFeatures()
    networks = (teacher, OneClassBroken(teacher))
    seen = [describe_all(draw(net, sampler, 80, seed=0, device="cpu"), view) for net in networks]
    whole = what_was_taken(*networks, sampler, n=80, latents=0)
    refuses = nn.Module()  # cannot be called
    again = what_was_taken(refuses, refuses, sampler, n=80, latents=0, seen=seen)
    assert again.classes == whole.classes
    assert again.distances == whole.distances


def test_evaluate_hands_on_what_it_saw() -> None:
    found: list[Described] = []
    teacher = embedded_generator()
    figures = evaluate(teacher, InputSampler.of(teacher), n=60, seen=found.append)
    (seen,) = found
    assert seen.view.shape[0] == 60
    assert seen.given is not None
    assert seen.predicted is not None
    right = float((seen.given == seen.predicted).double().mean())
    assert figures["conditional_accuracy"] == pytest.approx(right)


def test_classes_are_told_apart_though_the_features_know_none() -> None:
    teacher = embedded_generator()
    broken = OneClassBroken(teacher)
    found = what_was_taken(
        teacher, broken, InputSampler.of(teacher), n=80, latents=0, features=Means()
    )
    assert len(found.classes) == 10
    assert found.classes[0].label == BROKEN
    assert all(one.accuracy is None for one in found.classes)
    assert found.lost == ()
    assert taken_table(found, CLASSES).rows[0][3] == ""


def test_without_classes_all_samples_are_one() -> None:
    torch.manual_seed(0)
    net, sampler = Plain(), InputSampler.parse(["z=normal(4)"])
    found = what_was_taken(net, Plain(), sampler, n=40)
    (one,) = found.classes
    assert one.label is None
    assert one.accuracy is None
    assert one.agreement > 0
    assert taken_table(found).rows[0][0] == "all"
    with pytest.raises(DataError, match="ask for more"):
        what_was_taken(net, net, sampler, n=3)


def test_the_mean_distance_leaves_a_row_and_itself_out() -> None:
    assert mean_distance(torch.tensor([[0.0], [1.0], [3.0]])) == pytest.approx((1 + 3 + 2) / 3)
    assert mean_distance(torch.zeros(3, 2)) > 0
