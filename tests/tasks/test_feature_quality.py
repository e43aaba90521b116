"""Frechet distance and PRDC of every task: right order, true counts, and no made-up figure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.data.arrays import ArrayDataset
from gancompress.data.inputs import InputSampler
from gancompress.errors import DataError
from gancompress.metrics.features import (
    EmbeddedFeatures,
    GreyFeatures,
    OwnFeatures,
    describe_all,
    embedded_view,
)
from gancompress.tasks import TASKS, Sources
from gancompress.tasks.feature_quality import feature_quality
from tests.tasks.test_tasks import Sound


class Toned:
    """x (n, 3, 8, 8) of random tones, its target x moved up by 0.2; values in [-1, 1]."""

    n_classes = None

    def __init__(self, n: int = 200) -> None:
        self.x = torch.rand(n, 3, 1, 1, generator=torch.Generator().manual_seed(0)) - 0.5

    def __len__(self) -> int:
        return len(self.x)

    def pairs(self, indices: Tensor) -> tuple[Tensor, Tensor, None]:
        x = self.x[indices].expand(-1, 3, 8, 8)
        return x, x + 0.2, None


class Plus(nn.Module):
    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def tones() -> OwnFeatures:
    return OwnFeatures(lambda x: x.flatten(2).mean(2), "tones")


def test_pairs_are_ordered_by_their_fault_and_the_floor_is_real() -> None:
    task = TASKS.bind({"name": "paired", "held_out": 0.2})(Sources(dataset=Toned()))
    found = {s: feature_quality(task, Plus(s), tones(), n=100) for s in (0.2, 0.25, 0.6)}
    right, near, far = (found[s] for s in (0.2, 0.25, 0.6))
    # Of Gaussians that differ by a shift alone the distance is its square, times three channels.
    assert far["frechet"] - right["frechet"] == pytest.approx(3 * 0.4**2, abs=0.1)
    assert right["frechet"] < near["frechet"] < far["frechet"]
    assert right["frechet"] < 5 * right["frechet_floor"]
    assert far["precision"] < right["precision"]
    assert (right["n"], right["n_reference"], right["features"]) == (40, 100, "tones")


def test_real_outputs_of_the_floor_are_others_than_those_compared_with() -> None:
    seen: list[float] = []

    def watch(x: Tensor) -> Tensor:
        seen.extend(x[:, 0, 0, 0].tolist())
        return x.flatten(2).mean(2)

    task = TASKS.bind({"name": "paired", "held_out": 0.2})(Sources(dataset=Toned(100)))
    found = feature_quality(task, Plus(0.0), OwnFeatures(watch, "w"), n=1000)
    assert (found["n"], found["n_reference"]) == (20, 60)
    real = seen[20:]  # after those that were made
    assert len(set(real)) == 80


def test_too_few_say_so_instead_of_a_figure() -> None:
    one = TASKS.bind({"name": "paired", "held_out": 0.01})(Sources(dataset=Toned(20)))
    found = feature_quality(one, Plus(0.2), tones())
    assert set(found) == {"too_few", "reference"}
    few = TASKS.bind({"name": "paired", "held_out": 0.2})(Sources(dataset=Toned(20)))
    found = feature_quality(few, Plus(0.2), tones())
    assert found["frechet"] >= 0
    assert found["precision"] is None


def test_sound_through_a_view_of_its_own() -> None:
    spec = {"name": "vocoder", "hop": 64, "n_fft": 256, "n_mels": 20, "high": 4000, "held_out": 0.3}
    task = TASKS.bind(spec)(Sources(dataset=Sound()))

    class Quiet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.zeros(1))

        def forward(self, mel: Tensor) -> Tensor:
            return self.factor * mel.new_ones(len(mel), 1, mel.shape[2] * 64)

    loud = OwnFeatures(lambda x: x.abs().mean(2).expand(-1, 2), "loudness")
    found = feature_quality(task, Quiet(), loud)
    assert found["frechet"] > 0.1 > found["frechet_floor"]
    with pytest.raises(DataError, match="look at pictures"):
        feature_quality(task, Quiet(), GreyFeatures())


class Tone(nn.Module):
    def __init__(self, bright: float = 0.0) -> None:
        super().__init__()
        self.bright = nn.Parameter(torch.tensor(bright))

    def forward(self, z: Tensor) -> Tensor:
        return (z * 0.2 + self.bright).tanh().expand(-1, 3, 8, 8)


def noise(data: Any = None) -> Any:
    return TASKS.bind("noise")(Sources(InputSampler.parse(["z=normal(3,1,1)"]), data))


def test_noise_against_its_data_or_its_teacher() -> None:
    x = Tone()(torch.randn(300, 3, 1, 1, generator=torch.Generator().manual_seed(1))).detach()
    data = ArrayDataset(((x + 1) * 127.5).round().byte())
    same = feature_quality(noise(data), Tone(), tones(), n=1000)
    bright = feature_quality(noise(data), Tone(0.5), tones(), n=1000)
    assert (same["n"], same["n_reference"]) == (150, 150)
    assert same["frechet"] < 5 * same["frechet_floor"] < bright["frechet"]
    free = feature_quality(noise(), Tone(0.5), tones(), teacher=Tone(), n=100)
    assert free["frechet"] > 0.5
    assert "Tone" in free["reference"]
    assert "too_few" in feature_quality(noise(), Tone(), tones())


def test_the_embedded_view_of_any_picture() -> None:
    grey = torch.rand(4, 1, 32, 32) * 2 - 1
    assert isinstance(embedded_view((1, 32, 32)), EmbeddedFeatures)
    view = embedded_view((3, 64, 48))
    colour = grey.repeat(1, 3, 1, 1)
    torch.testing.assert_close(view(colour)[0], EmbeddedFeatures()(grey)[0])
    assert "grey" in view.name
    assert view(torch.zeros(2, 4, 70, 20))[0].shape == (2, 96)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda x: x.missing, "AttributeError"),
        (lambda x: x[:1], "for 3 outputs"),
        (lambda x: "text", "returned str"),
        (lambda x: (x.flatten(1), None), "NoneType"),
    ],
)
def test_views_that_do_not_work_are_named(view: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        OwnFeatures(view, "mine:view")(torch.zeros(3, 1, 4, 4))
    assert "mine:view" in str(caught.value)


def test_logits_beside_features_know_the_class() -> None:
    view = OwnFeatures(lambda x: (x, torch.eye(5)[: len(x)]), "both")
    found, classes, given = describe_all([(torch.zeros(3, 2, 4, 4), torch.arange(3))], view)
    assert found.shape == (3, 2)
    assert classes is not None
    assert given is not None
    assert torch.equal(classes, given)
    assert view.n_classes == 5
