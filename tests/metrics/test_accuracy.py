"""Conditional accuracy, whole and by class."""

import pytest
import torch

from gancompress.errors import DataError
from gancompress.metrics.accuracy import conditional_accuracy, per_class_accuracy


def test_share_of_hits_and_of_each_class():
    wanted = torch.tensor([0, 0, 1, 3])
    predicted = torch.tensor([0, 1, 1, 3])
    assert conditional_accuracy(predicted, wanted) == 0.75
    assert per_class_accuracy(predicted, wanted, 4) == [0.5, 1.0, None, 1.0]


def test_bad_labels_are_refused():
    with pytest.raises(DataError, match="predictions for"):
        conditional_accuracy(torch.zeros(3), torch.zeros(2))
    with pytest.raises(DataError, match="do not fit the 10 classes"):
        per_class_accuracy(torch.tensor([1]), torch.tensor([12]), 10)
