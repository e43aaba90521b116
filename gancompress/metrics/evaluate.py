"""One call for all quality figures of a generator, each with its protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import DataError
from gancompress.metrics.accuracy import conditional_accuracy, per_class_accuracy
from gancompress.metrics.features import Described, EmbeddedFeatures, Features, describe_all
from gancompress.metrics.frechet import FeatureStatistics, frechet_distance
from gancompress.metrics.prdc import prdc
from gancompress.metrics.reference import FASHION, Images, real_pair
from gancompress.metrics.sampling import Sampler, draw

NEIGHBOURS = 5  # the k of PRDC recommended by Naeem et al. 2020


def evaluate(
    generator: nn.Module,
    sampler: Sampler,
    *,
    reference: str | Images | nn.Module = FASHION,
    n: int = 2000,
    seed: int = 0,
    batch: int = 100,
    device: str | torch.device = "cpu",
    features: Features | None = None,
    seen: Callable[[Described], None] | None = None,
) -> dict[str, Any]:
    """Measure ``n`` samples of ``generator`` in eval mode against ``n`` reference images.

    Returns ``frechet_classifier`` (lower is better; not an FID, its scale is that of ``features``),
    ``precision recall density coverage`` (k = 5), ``conditional_accuracy`` and
    ``per_class_accuracy`` (``None`` without labels or where ``features`` know no classes), FID and
    KID by name on `InceptionFeatures`, the protocol ``n seed features reference
    classes prdc_k``, and what ``n`` other reference images score in the generator's place:
    ``frechet_floor`` and ``real`` (its other figures). Where both know classes, the generator is
    asked for those of the reference. Compare at equal ``n``, ``seed`` and ``reference``. ``seen``
    gets what the features tell of the samples.

    Raises:
        DataError: the images do not fit the features, the reference is too small for ``n``, or its
            classes are not the generator's.
    """
    features = EmbeddedFeatures() if features is None else features
    pair = real_pair(reference, n=n, seed=seed, features=features, sampler=sampler, device=device)
    labels = classes_to_ask(sampler, pair.labels)
    described = describe_all(
        draw(generator, sampler, n, seed=seed, labels=labels, batch=batch, device=device), features
    )
    if seen is not None:
        seen(described)
    fake, predicted, wanted = described
    real = FeatureStatistics.of(pair.first)
    quality = prdc(pair.first, fake, k=NEIGHBOURS)
    floor = prdc(pair.first, pair.second, k=NEIGHBOURS)
    return {
        "frechet_classifier": frechet_distance(real, FeatureStatistics.of(fake)),
        "frechet_floor": frechet_distance(real, FeatureStatistics.of(pair.second)),
        "precision": quality.precision,
        "recall": quality.recall,
        "density": quality.density,
        "coverage": quality.coverage,
        "real": {
            "precision": floor.precision,
            "recall": floor.recall,
            "density": floor.density,
            "coverage": floor.coverage,
            "conditional_accuracy": None
            if pair.labels is None or pair.predicted is None
            else conditional_accuracy(pair.predicted, pair.labels),
        },
        "conditional_accuracy": None
        if wanted is None or predicted is None
        else conditional_accuracy(predicted, wanted),
        "per_class_accuracy": None
        if wanted is None or predicted is None
        else per_class_accuracy(predicted, wanted, features.n_classes),
        "n": n,
        "seed": seed,
        "features": features.name,
        "reference": pair.name,
        "classes": "as drawn" if labels is None else "as in the reference",
        "prdc_k": NEIGHBOURS,
        **standard_figures(features, fake, pair.first),
    }


def standard_figures(features: Features, fake: Tensor, real: Tensor) -> dict[str, float]:
    """Return what ``features`` know to say beside, of ``fake`` and ``real`` (n, d): FID, KID."""
    more: Any = getattr(features, "standard", None)
    return {} if more is None else more(fake, real)


def classes_to_ask(sampler: Sampler, labels: Tensor | None) -> Tensor | None:
    """Return the reference's ``labels`` (n,) when the generator takes labels, else ``None``.

    Raises:
        DataError: the two have another number of classes.
    """
    drawn = sampler.labels(sampler(2, torch.Generator().manual_seed(0)))
    if labels is None or drawn is None:
        return None
    known, found = getattr(sampler, "n_classes", None), int(labels.max()) + 1
    if known is not None and known != found:
        raise DataError(
            f"the generator has {known} classes, the reference images have {found}: give reference "
            "images of the generator's classes"
        )
    return labels
