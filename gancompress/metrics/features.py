"""What a set of images looks like to a classifier: the only view the metrics have of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from gancompress.metrics.classifier import FEATURES, describe


class Features(Protocol):
    """A named view of images: features for distances, predicted labels for accuracy (ours)."""

    name: str
    n_classes: int

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, d) and predicted labels (n,) of images (n, c, h, w) in [-1, 1]."""
        ...


class EmbeddedFeatures:
    """The shipped Fashion-MNIST classifier as ``Features``: 96-d, grey 32x32 images (ours)."""

    name = FEATURES
    n_classes = 10

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, 96) and predicted labels (n,) of images (n, 1, 32, 32) in [-1, 1].

        Raises:
            DataError: the images have another shape or hold non-finite values.
        """
        return describe(images)


def describe_all(
    batches: Iterable[tuple[Tensor, Tensor | None]], features: Features
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return features (n, d) in float64, predicted and given labels (n,) of all batches."""
    found, predicted, given = [], [], []
    for images, labels in batches:
        view, classes = features(images)
        found.append(view.double())
        predicted.append(classes)
        if labels is not None:
            given.append(labels)
    return torch.cat(found), torch.cat(predicted), torch.cat(given) if given else None
