"""All figures in one call: right order, stated protocol, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gancompress.data.embedded import embedded
from gancompress.data.folders import open_images
from gancompress.data.inputs import InputSampler
from gancompress.errors import DataError
from gancompress.metrics.evaluate import evaluate
from gancompress.metrics.features import EmbeddedFeatures
from gancompress.metrics.reference import class_halves, real_pair
from gancompress.metrics.sampling import with_labels
from tests.metrics.fakes import HELD_OUT, Replay, ReplaySampler, Set, load


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    faults = ("", "noise", "more noise", "blur", "mode drop", "wrong class")
    return {fault: evaluate(Replay(fault), ReplaySampler(), n=600, seed=3) for fault in faults}


def test_the_frechet_distance_orders_the_faults(found: dict[str, dict[str, Any]]):
    distance = {fault: result["frechet_classifier"] for fault, result in found.items()}
    floor = found[""]["frechet_floor"]
    assert distance[""] <= 1.5 * floor
    assert distance["mode drop"] >= 3 * floor
    assert 3 * floor <= distance["noise"] <= distance["more noise"] / 2
    assert distance["blur"] >= 3 * floor


def test_mode_drop_is_seen_by_recall_and_noise_by_precision(found: dict[str, dict[str, Any]]):
    good, dropped, noisy = found[""], found["mode drop"], found["more noise"]
    assert dropped["recall"] <= good["recall"] / 2
    assert dropped["coverage"] <= good["coverage"] / 2
    assert dropped["precision"] >= 0.9
    assert noisy["precision"] <= good["precision"] - 0.2


def test_the_wrong_class_is_seen_by_accuracy_alone(found: dict[str, dict[str, Any]]):
    good, wrong = found[""], found["wrong class"]
    assert good["conditional_accuracy"] >= 0.88
    assert wrong["conditional_accuracy"] <= 0.1
    # The set of images is another shuffle of the same pool: distances cannot tell.
    assert wrong["frechet_classifier"] <= 2 * good["frechet_floor"]
    mean = sum(good["per_class_accuracy"]) / 10
    assert mean == pytest.approx(good["conditional_accuracy"])  # 60 images of each class


def test_the_protocol_travels_with_the_figures(found: dict[str, dict[str, Any]]):
    result = found[""]
    assert (result["n"], result["seed"], result["prdc_k"]) == (600, 3, 5)
    assert result["features"] == "fashion-classifier-96"
    assert "2,000 embedded" in result["reference"]
    assert result["classes"] == "as in the reference"
    assert 0.85 <= result["real"]["precision"] <= 1
    assert result["real"]["conditional_accuracy"] >= 0.88


def test_the_same_seed_gives_the_same_figures_for_any_batch():
    first = evaluate(Replay(), ReplaySampler(), n=200, seed=1, batch=100)
    again = evaluate(Replay(), ReplaySampler(), n=200, seed=1, batch=37)
    other = evaluate(Replay(), ReplaySampler(), n=200, seed=2)
    assert first["frechet_classifier"] == pytest.approx(again["frechet_classifier"], rel=1e-6)
    assert first["frechet_classifier"] != other["frechet_classifier"]
    assert first["frechet_floor"] == again["frechet_floor"]


def test_the_distance_falls_with_n_so_the_count_is_part_of_it():
    few = evaluate(Replay(), ReplaySampler(), n=150)
    many = evaluate(Replay(), ReplaySampler(), n=1200)
    assert few["frechet_floor"] >= 2 * many["frechet_floor"]


def test_a_data_set_as_reference():
    images, labels = load(HELD_OUT)
    result = evaluate(Replay(), ReplaySampler(), reference=Set(images, labels), n=100)
    assert "200 images" in result["reference"]
    assert result["frechet_classifier"] <= 3 * result["frechet_floor"]
    assert result["classes"] == "as in the reference"
    bare = evaluate(Replay(), ReplaySampler(), reference=Set(images, None), n=100)
    assert bare["classes"] == "as drawn"
    assert bare["conditional_accuracy"] >= 0.8


def test_a_teacher_as_reference_shares_no_latents():
    teacher = Replay().train()
    good = evaluate(Replay(), ReplaySampler(), reference=teacher, n=400)
    bad = evaluate(Replay("blur"), ReplaySampler(), reference=teacher, n=400)
    assert teacher.training
    assert 0.1 < good["frechet_classifier"] / good["frechet_floor"] <= 2
    assert bad["frechet_classifier"] >= 5 * good["frechet_classifier"]


class Normed(nn.Module):
    """A generator whose output depends on its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.replay = Replay()
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_var.fill_(1 - 1e-5)

    def forward(self, index: Tensor, y: Tensor) -> Tensor:
        return self.norm(self.replay(index, y))


def test_batch_norm_runs_in_eval_mode_and_is_put_back():
    generator = Normed().train()
    generator.replay.eval()
    before = generator.norm.running_mean.clone()
    result = evaluate(generator, ReplaySampler(), n=100)
    assert generator.training
    assert generator.norm.training
    assert not generator.replay.training
    torch.testing.assert_close(generator.norm.running_mean, before, rtol=0, atol=0)
    plain = evaluate(Replay(), ReplaySampler(), n=100)
    assert result["frechet_classifier"] == pytest.approx(plain["frechet_classifier"], rel=1e-3)


class Unlabelled(ReplaySampler):
    """The same inputs, none of them called a label."""

    def labels(self, inputs: Any) -> None:
        return None


def test_an_unconditional_generator_has_no_accuracy():
    result = evaluate(Replay(), Unlabelled(), n=100)
    assert result["conditional_accuracy"] is None
    assert result["per_class_accuracy"] is None
    assert result["classes"] == "as drawn"


class Bad(nn.Module):
    """Returns whatever it was given."""

    def __init__(self, out: Any) -> None:
        super().__init__()
        self.out = out

    def forward(self, index: Tensor, y: Tensor) -> Any:
        return self.out.expand(len(index), *self.out.shape[1:])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.full((1, 1, 32, 32), float("inf")), "NaN or infinite"),
        (torch.full((1, 1, 32, 32), 128.0), r"read \[-1, 1\]"),
        (torch.zeros(1, 3, 32, 32), r"\(n, 1, 32, 32\)"),
        (torch.zeros(1, 32, 32), r"\(n, c, h, w\)"),
        (torch.zeros(1, 1, 32, 32, dtype=torch.uint8), "float images"),
    ],
)
def test_images_that_cannot_be_measured_are_refused(out: Tensor, message: str):
    with pytest.raises(DataError, match=message):
        evaluate(Bad(out), ReplaySampler(), n=50)


def test_references_that_do_not_fit_are_refused():
    images, labels = load(HELD_OUT)
    with pytest.raises(DataError, match="holds 2000 images, n=2001"):
        evaluate(Replay(), ReplaySampler(), n=2001)
    with pytest.raises(DataError, match="use n=100 or less"):
        evaluate(Replay(), ReplaySampler(), reference=Set(images, labels), n=101)
    with pytest.raises(DataError, match="open_images"):
        evaluate(Replay(), ReplaySampler(), reference="t10k.npz", n=50)
    few = Set(images[labels < 4], labels[labels < 4])
    with pytest.raises(DataError, match="has 10 classes, the reference images have 4"):
        evaluate(Replay(), ReplaySampler(), reference=few, n=30)
    with pytest.raises(DataError, match="at least 1"):
        evaluate(Replay(), ReplaySampler(), n=50, batch=0)


def test_features_of_ones_own():
    class Thumbnails:
        name, n_classes = "thumbnails-16", 10

        def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)).flatten(1), images[
                :, 0, 0, 0
            ]

    images, labels = load(HELD_OUT)
    result = evaluate(
        Replay(), ReplaySampler(), reference=Set(images, labels), n=100, features=Thumbnails()
    )
    assert result["features"] == "thumbnails-16"
    with pytest.raises(DataError, match="described by fashion-classifier-96"):
        evaluate(Replay(), ReplaySampler(), n=100, features=Thumbnails())


def test_halves_are_disjoint_and_share_their_classes():
    labels = torch.tensor([0] * 31 + [1] * 12 + [2] * 7)
    first, second = class_halves(labels, 25, seed=0)
    assert len(set(first.tolist()) | set(second.tolist())) == 50
    counts = [torch.bincount(labels[half], minlength=3) for half in (first, second)]
    assert (counts[0] - counts[1]).abs().max() <= 1
    first, second = class_halves(labels, 9, seed=0)
    assert torch.bincount(labels[first]).tolist() == [3, 3, 3]
    assert torch.bincount(labels[second]).tolist() == [3, 3, 3]


def test_the_floor_images_are_not_the_reference_images():
    pair = real_pair(
        "fashion", n=2000, seed=0, features=EmbeddedFeatures(), sampler=ReplaySampler()
    )
    nearest = torch.cdist(pair.second, pair.first).min(1).values
    # The store is half precision: a twin would lie within its rounding.
    assert (nearest < 1e-2).sum() <= 2


class Counting(Set):
    """Counts the images that were read."""

    read = 0

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        self.read += len(indices)
        return super().batch(indices)


def test_only_the_images_needed_are_read():
    reference = Counting(*load(HELD_OUT))
    evaluate(Replay(), ReplaySampler(), reference=reference, n=50)
    assert reference.read == 100
    mute = Set(*load(HELD_OUT))
    mute.batch = lambda indices: (mute.images[indices], None)  # type: ignore[method-assign]
    mute.labels, mute.n_classes = None, 10
    with pytest.raises(DataError, match="states 10 classes without labels"):
        evaluate(Replay(), ReplaySampler(), reference=mute, n=50)


def test_the_project_s_own_data_sets_and_sampler_fit(tmp_path: Path):
    sampler = InputSampler.parse(["index=labels(200)", "y=normal(1)"])
    drawn = sampler(5, torch.Generator().manual_seed(0))
    replaced = with_labels(sampler, drawn, torch.arange(5))
    assert replaced[0].tolist() == [0, 1, 2, 3, 4]
    assert replaced[1] is drawn[1]
    found = evaluate(Replay(), ReplaySampler(), reference=embedded(), n=300)
    assert found["reference"] == "ArrayDataset, 2,000 images"
    assert found["classes"] == "as in the reference"
    with np.load(HELD_OUT, allow_pickle=False) as file:
        pad = np.pad(file["x"], ((0, 0), (2, 2), (2, 2)))
        np.savez(tmp_path / "t10k.npz", x=pad, y=file["y"])
    held = evaluate(Replay(), ReplaySampler(), reference=open_images(tmp_path / "t10k.npz"), n=100)
    assert held["n"] == 100
    assert held["frechet_classifier"] <= 3 * held["frechet_floor"]


@pytest.mark.parametrize("labelled", [True, False])
def test_the_floor_of_a_data_set_is_made_of_other_images(labelled: bool):
    images, labels = load(HELD_OUT)
    data = Set(images, labels if labelled else None)
    pair = real_pair(data, n=90, seed=1, features=EmbeddedFeatures(), sampler=ReplaySampler())
    rows = torch.cat([pair.first, pair.second])
    assert len(rows) == 180
    # All images of the set differ, and so do what the classifier sees in them.
    assert len(rows.unique(dim=0)) == 180
