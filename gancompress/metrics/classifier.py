"""The embedded Fashion-MNIST classifier: features and labels for the metrics."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gancompress import assets
from gancompress.errors import DataError

FEATURES = "fashion-classifier-96"
"""Name that every number computed on these features carries."""


class FashionClassifier(nn.Module):
    """A plain conv net (ours): images (n, 1, 32, 32) in [-1, 1] to 96 features and 10 logits."""

    def __init__(self, n_classes: int = 10, features: int = 96) -> None:
        super().__init__()
        widths = [(1, 32, 1), (32, 64, 2), (64, 64, 1), (64, 96, 2), (96, 96, 1)]
        layers: list[nn.Module] = []
        for i, o, stride in widths:
            layers += [nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        layers += [nn.Conv2d(96, features, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(features, n_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the penultimate layer (n, 96), non-negative, averaged over space.

        Raises:
            DataError: the images are not (n, 1, 32, 32).
        """
        if images.ndim != 4 or images.shape[1:] != (1, 32, 32):
            raise DataError(
                f"the embedded classifier reads images (n, 1, 32, 32), got {tuple(images.shape)}; "
                "for other data use the torch-fidelity metrics (gancompress.metrics.fidelity)"
            )
        return self.trunk(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, 10)."""
        return self.head(self.features(images))


@cache
def load_classifier() -> FashionClassifier:
    """Return the shipped classifier, frozen and in eval mode (shared: do not change it)."""
    net = FashionClassifier()
    state = load_file(str(assets.path("classifier.safetensors")))
    net.load_state_dict({name: value.float() for name, value in state.items()})
    return net.eval().requires_grad_(False)


def classifier_record() -> dict[str, Any]:
    """Return how the shipped classifier was made: test accuracy, seed, steps, versions, git."""
    return json.loads(assets.path("classifier.json").read_text())


@torch.no_grad()
def describe(images: Tensor, batch: int = 250) -> tuple[Tensor, Tensor]:
    """Return float64 features (n, 96) and predicted labels (n,) of images (n, 1, 32, 32).

    Raises:
        DataError: the images have another shape or hold non-finite values.
    """
    if not torch.isfinite(images).all():
        raise DataError("the images hold NaN or infinite values; nothing can be measured on them")
    net = load_classifier()
    features, labels = [], []
    for part in images.split(batch):
        found = net.features(part.float().cpu())
        features.append(found.double())
        labels.append(net.head(found).argmax(1))
    return torch.cat(features), torch.cat(labels)
