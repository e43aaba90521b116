"""The images a generator is measured against, and a second, disjoint set for the floor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gancompress import assets
from gancompress.data.arrays import Dataset
from gancompress.data.embedded import embedded_images
from gancompress.data.folders import open_images
from gancompress.errors import DataError
from gancompress.metrics.classifier import describe
from gancompress.metrics.features import EmbeddedFeatures, Features, describe_all
from gancompress.metrics.sampling import Sampler, draw

FASHION = "fashion"
TEACHER_SEED = 7_000_003  # added to the seed, so that teacher and student never share latents


@dataclass(frozen=True)
class RealPair:
    """Features of two disjoint real sets (n, d) of equal size, and where they come from."""

    name: str
    first: Tensor
    second: Tensor


def balanced_order(labels: Tensor | None, n: int, rng: torch.Generator) -> Tensor:
    """Return a random order of 0 .. n-1 whose every prefix is as class-balanced as can be."""
    order = torch.randperm(n, generator=rng)
    if labels is None:
        return order
    shuffled = labels[order]
    rank = torch.empty_like(order)
    for value in shuffled.unique():
        here = (shuffled == value).nonzero().flatten()
        rank[here] = torch.arange(len(here))
    return order[rank.argsort(stable=True)]


@cache
def _embedded_pair() -> tuple[Tensor, Tensor, Tensor]:
    pixels, labels = embedded_images()
    features, _ = describe(pixels.float() / 127.5 - 1)
    with np.load(assets.path("fashion_floor.npz"), allow_pickle=False) as file:
        return features, torch.from_numpy(file["features"]).double(), labels


def _batches(data: Dataset, indices: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    return (data.batch(part) for part in indices.split(250))


def _fashion_pair(n: int, seed: int) -> RealPair:
    first, second, labels = _embedded_pair()
    if n > len(first):
        raise DataError(
            f"the embedded reference holds {len(first)} images, n={n} was asked; lower n or give "
            "a larger reference by path"
        )
    # Both sets come class by class, so one balanced order serves both.
    pick = balanced_order(labels, len(first), torch.Generator().manual_seed(seed))[:n]
    return RealPair("fashion-mnist train, 2,000 embedded images", first[pick], second[pick])


def _dataset_pair(data: Dataset, name: str, n: int, seed: int, features: Features) -> RealPair:
    if 2 * n > len(data):
        raise DataError(
            f"reference {name} holds {len(data)} images; n={n} and a floor at the same count need "
            f"{2 * n}: use n={len(data) // 2} or less"
        )
    every = torch.arange(len(data))
    labels = None
    if data.n_classes is not None:
        given = [y for part in every.split(1000) if (y := data.batch(part)[1]) is not None]
        labels = torch.cat(given)
    order = balanced_order(labels, len(data), torch.Generator().manual_seed(seed))
    first, _, _ = describe_all(_batches(data, order[:n]), features)
    second, _, _ = describe_all(_batches(data, order[n : 2 * n]), features)
    return RealPair(name, first, second)


def real_pair(
    reference: str | Path | Dataset | nn.Module,
    *,
    n: int,
    seed: int,
    features: Features,
    sampler: Sampler | None = None,
    device: str | torch.device = "cpu",
) -> RealPair:
    """Return the features of ``n`` reference images and of ``n`` other ones.

    ``reference`` is ``"fashion"`` (embedded), the path of a .npz or an image folder, a ``Dataset``,
    or a teacher generator, whose samples then stand for real images.

    Raises:
        DataError: too few images for ``n`` and its floor, or features that do not fit them.
    """
    if isinstance(reference, nn.Module):
        if sampler is None:
            raise DataError("a teacher as reference needs the sampler that draws its inputs")
        batches = draw(reference, sampler, 2 * n, seed=seed + TEACHER_SEED, device=device)
        both, _, _ = describe_all(batches, features)
        return RealPair(f"samples of {type(reference).__name__}", both[:n], both[n:])
    if reference == FASHION:
        if not isinstance(features, EmbeddedFeatures):
            raise DataError(
                f"the embedded reference is described by {EmbeddedFeatures.name}, not by "
                f"{features.name}; give the reference images by path"
            )
        return _fashion_pair(n, seed)
    if isinstance(reference, str | Path):
        return _dataset_pair(
            open_images(reference), f"images of {Path(reference).name}", n, seed, features
        )
    return _dataset_pair(reference, type(reference).__name__, n, seed, features)
