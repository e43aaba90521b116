"""The shipped classifier is as good as its record says."""

import pytest
import torch

from gancompress import assets
from gancompress.errors import DataError
from gancompress.metrics.classifier import (
    FEATURES,
    classifier_record,
    describe,
    load_classifier,
)
from tests.metrics.fakes import HELD_OUT, load


def test_the_record_states_at_least_91_percent_and_how_it_was_made():
    record = classifier_record()
    assert record["test_accuracy"] >= 0.91
    assert record["test_images"] == 10_000
    assert record["features"] == FEATURES
    assert record["parameters"] == sum(p.numel() for p in load_classifier().parameters())
    assert {"seed", "steps", "torch", "git"} <= set(record)


def test_accuracy_on_images_that_it_never_saw():
    images, labels = load(HELD_OUT)
    features, predicted = describe(images)
    assert features.shape == (200, 96)
    assert features.dtype == torch.float64
    # 200 images of a 91.9 % classifier: three standard errors below.
    assert (predicted == labels).double().mean() >= 0.86


def test_batches_do_not_change_the_features():
    images, _ = load(HELD_OUT)
    whole, _ = describe(images, batch=200)
    parts, _ = describe(images, batch=33)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_it_is_frozen_and_in_eval_mode():
    net = load_classifier()
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"\(n, 1, 32, 32\), got \(2, 3, 64, 64\)"):
        describe(torch.zeros(2, 3, 64, 64))
    with pytest.raises(DataError, match="NaN"):
        describe(torch.full((1, 1, 32, 32), float("nan")))


def test_the_file_is_small():
    assert assets.path("classifier.safetensors").stat().st_size <= 1_000_000
