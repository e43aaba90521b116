"""The images a generator is measured against, and a second, disjoint set for the floor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress import assets
from gancompress.errors import DataError
from gancompress.metrics.classifier import describe
from gancompress.metrics.features import EmbeddedFeatures, Features, describe_all
from gancompress.metrics.sampling import Sampler, draw

FASHION = "fashion"
TEACHER_SEED = 7_000_003  # added to the seed, so that teacher and student never share latents


class Images(Protocol):
    """A set of images as the metrics read it, for example any data set of ``gancompress.data``."""

    @property
    def n_classes(self) -> int | None:
        """Number of classes, ``None`` without labels."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float images (n, c, h, w) in [-1, 1] and int64 labels (n,) or ``None``."""
        ...


@dataclass(frozen=True)
class RealPair:
    """Features of two disjoint real sets (n, d); of the first also true and predicted labels."""

    name: str
    first: Tensor
    second: Tensor
    labels: Tensor | None
    predicted: Tensor | None


def ranked(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return a random order of 0 .. n-1 in which the classes take turns, and each turn's number."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    turn = torch.empty_like(order)
    for value in labels.unique():
        here = (labels[order] == value).nonzero().flatten()
        turn[here] = torch.arange(len(here))
    by_turn = turn.argsort(stable=True)
    return order[by_turn], turn[by_turn]


def class_halves(labels: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return two disjoint random picks of ``n`` with the same share of each class.

    Classes come equally often as long as they last. Shares that differ by chance would as much as
    double the Frechet distance of two real sets.
    """
    order, turn = ranked(labels, seed)
    first, second = order[turn % 2 == 0], order[turn % 2 == 1]
    # Classes of odd size make the first half the longer one: its last images complete the second.
    return first[:n], torch.cat([second, first[n:]])[:n]


@cache
def _embedded_pair() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with np.load(assets.path("fashion2000.npz"), allow_pickle=False) as file:
        pixels, labels = torch.from_numpy(file["x"]), torch.from_numpy(file["y"]).long()
    features, predicted = describe(
        F.pad(pixels[:, None].float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
    )
    with np.load(assets.path("fashion_floor.npz"), allow_pickle=False) as file:
        second = torch.from_numpy(file["features"]).double()
    return features, second, labels, predicted


def _fashion_pair(n: int, seed: int) -> RealPair:
    first, second, labels, predicted = _embedded_pair()
    if n > len(first):
        raise DataError(
            f"the embedded reference holds {len(first)} images, n={n} was asked; give a larger "
            "reference or lower n"
        )
    # Both sets lie class by class, 200 each, so one pick serves both.
    pick = ranked(labels, seed)[0][:n]
    name = "fashion-mnist train, 2,000 embedded images"
    return RealPair(name, first[pick], second[pick], labels[pick], predicted[pick])


def _dataset_pair(data: Images, n: int, seed: int, features: Features) -> RealPair:
    if 2 * n > len(data):
        raise DataError(
            f"the reference {set_name(data)} is too small: n={n} and a floor at the same count "
            f"need {2 * n}; use n={len(data) // 2} or less"
        )
    if data.n_classes is None:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        labels, picks = None, (order[:n], order[n : 2 * n])
    else:
        every = all_labels(data)
        picks = class_halves(every, n, seed)
        labels = every[picks[0]]
    (first, predicted, _), (second, _, _) = (
        describe_all((data.batch(part) for part in pick.split(250)), features) for pick in picks
    )
    return RealPair(set_name(data), first, second, labels, predicted)


def all_labels(data: Images) -> Tensor:
    """Return the labels (n,) of a labelled set, from its ``labels`` if it keeps them at hand.

    Raises:
        DataError: the set states classes but returns no labels.
    """
    kept = getattr(data, "labels", None)
    if isinstance(kept, Tensor):
        return kept
    parts = [data.batch(part)[1] for part in torch.arange(len(data)).split(1000)]
    found = [labels for labels in parts if labels is not None]
    if len(found) < len(parts):
        raise DataError(f"the set {set_name(data)} states {data.n_classes} classes without labels")
    return torch.cat(found)


def _teacher_pair(
    teacher: nn.Module,
    sampler: Sampler,
    n: int,
    seed: int,
    features: Features,
    device: str | torch.device,
) -> RealPair:
    seeds = seed + TEACHER_SEED, seed + 2 * TEACHER_SEED
    first, predicted, labels = describe_all(
        draw(teacher, sampler, n, seed=seeds[0], device=device), features
    )
    second, _, _ = describe_all(
        draw(teacher, sampler, n, seed=seeds[1], labels=labels, device=device), features
    )
    return RealPair(f"samples of {type(teacher).__name__}", first, second, labels, predicted)


def real_pair(
    reference: str | Images | nn.Module,
    *,
    n: int,
    seed: int,
    features: Features,
    sampler: Sampler,
    device: str | torch.device = "cpu",
) -> RealPair:
    """Return the features of ``n`` reference images and of ``n`` other ones.

    ``reference`` is ``"fashion"`` (embedded), a set of images such as
    ``gancompress.data.folders.open_images(path)``, or a teacher generator, whose samples then
    stand for real images.

    Raises:
        DataError: too few images for ``n`` and its floor, or features that do not fit them.
    """
    if isinstance(reference, nn.Module):
        return _teacher_pair(reference, sampler, n, seed, features, device)
    if not isinstance(reference, str):
        return _dataset_pair(reference, n, seed, features)
    if reference != FASHION:
        raise DataError(
            f"no embedded reference {reference!r}, only {FASHION!r}; open images of your own with "
            f"gancompress.data.folders.open_images({reference!r})"
        )
    if not isinstance(features, EmbeddedFeatures):
        raise DataError(
            f"the embedded reference is described by {EmbeddedFeatures.name}, not by "
            f"{features.name}; give reference images of your own"
        )
    return _fashion_pair(n, seed)


def set_name(images: Images) -> str:
    """Return what a result calls a reference set: its own ``name``, or its class, and its size."""
    return f"{getattr(images, 'name', type(images).__name__)}, {len(images):,} images"
