"""Quality against images that no student trained on, through two views of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancompress.data.fashion import fashion
from gancompress.metrics.evaluate import NEIGHBOURS
from gancompress.metrics.features import EmbeddedFeatures, Features, describe_all
from gancompress.metrics.frechet import FeatureStatistics, frechet_distance
from gancompress.metrics.prdc import prdc
from gancompress.metrics.reference import FASHION, real_pair
from gancompress.metrics.sampling import Sampler, draw

MOST = 2000  # rows of a set that PRDC compares: its cost grows with the square


class RandomFeatures:
    """A convolutional network that nothing was ever taught, as a second view (ours).

    Random features do not know what a classifier was trained to see (Naeem et al. 2020, section
    3.3, use them for that). Three strided layers, 96 features; the same weights everywhere.
    """

    name = "random-96"
    n_classes = 10

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(20_260)
        sizes = [(1, 24), (24, 48), (48, 96)]
        self._weights = [
            torch.randn(o, i, 3, 3, generator=rng) * (2 / (9 * i)) ** 0.5 for i, o in sizes
        ]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, 96), and zeros for labels: it knows no classes."""
        x = images.float().mean(1, keepdim=True)
        for weight in self._weights:
            x = F.relu(F.conv2d(x, weight, stride=2, padding=1))
        return x.mean((2, 3)), torch.zeros(len(x), dtype=torch.int64)


def held_out_figures(
    generator: nn.Module, sampler: Sampler, *, samples: int, seed: int, folder: Path | None = None
) -> dict[str, Any]:
    """Measure ``samples`` of ``generator`` against real images that no student trained on.

    With ``folder`` these are the 10,000 test images of Fashion-MNIST, which no teacher saw either,
    through the embedded classifier and through `RandomFeatures`. Without, 2,000 training images
    other than the embedded ones, which the package has as features of the classifier only. The
    distance takes all samples; precision, recall, density and coverage the first `MOST` of both.
    """
    made = list(draw(generator, sampler, samples, seed=seed))
    if folder is None:
        pair = real_pair(FASHION, n=2000, seed=seed, features=EmbeddedFeatures(), sampler=sampler)
        found = {"classifier": _compare(pair.second, _seen(made, EmbeddedFeatures()))}
        where = "2,000 training images of Fashion-MNIST that are not embedded"
    else:
        test, found = fashion(folder, train=False), dict[str, Any]()
        parts = [test.batch(part) for part in torch.arange(len(test)).split(250)]
        for name, view in (("classifier", EmbeddedFeatures()), ("random", RandomFeatures())):
            found[name] = _compare(_seen(parts, view), _seen(made, view))
        where = "the 10,000 test images of Fashion-MNIST"
    return {"reference": where, "samples": samples, "seed": seed, **found}


def _seen(batches: list[tuple[Tensor, Tensor | None]], view: Features) -> Tensor:
    def each() -> Iterator[tuple[Tensor, Tensor | None]]:
        yield from batches

    return describe_all(each(), view)[0]


def _compare(real: Tensor, fake: Tensor) -> dict[str, float]:
    quality = prdc(real[:MOST], fake[:MOST], k=NEIGHBOURS)
    distance = frechet_distance(FeatureStatistics.of(real), FeatureStatistics.of(fake))
    return {
        "frechet": distance, "precision": quality.precision, "recall": quality.recall,
        "density": quality.density, "coverage": quality.coverage,
    }  # fmt: skip
