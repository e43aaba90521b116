"""Conditional accuracy: does a sample show the class that was asked for?"""

from __future__ import annotations

import torch
from torch import Tensor

from gancompress.errors import DataError


def conditional_accuracy(predicted: Tensor, wanted: Tensor) -> float:
    """Return the share in [0, 1] of predicted labels (n,) equal to the wanted ones (n,).

    Raises:
        DataError: the two differ in length or are empty.
    """
    if predicted.shape != wanted.shape or len(wanted) == 0:
        raise DataError(f"{tuple(predicted.shape)} predictions for {tuple(wanted.shape)} labels")
    return float((predicted == wanted).double().mean())


def per_class_accuracy(predicted: Tensor, wanted: Tensor, n_classes: int) -> list[float | None]:
    """Return the accuracy in [0, 1] of each class (Ravuri and Vinyals 2019), ``None`` if not drawn.

    Raises:
        DataError: a wanted label lies outside 0 .. n_classes - 1.
    """
    if len(wanted) and (int(wanted.min()) < 0 or int(wanted.max()) >= n_classes):
        raise DataError(
            f"labels {int(wanted.min())}..{int(wanted.max())} do not fit the {n_classes} classes "
            "that the features know"
        )
    hits = (predicted == wanted).double()
    drawn = torch.bincount(wanted, minlength=n_classes)
    found = torch.bincount(wanted, weights=hits, minlength=n_classes)
    return [float(f / d) if d else None for f, d in zip(found, drawn, strict=True)]
