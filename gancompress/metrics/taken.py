"""What compression took away: class by class, latent by latent, student against its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.errors import DataError
from gancompress.metrics.accuracy import per_class_accuracy
from gancompress.metrics.features import Described, EmbeddedFeatures, Features, describe_all
from gancompress.metrics.frechet import FeatureStatistics, frechet_distance
from gancompress.metrics.latents import LatentToll, latent_toll
from gancompress.metrics.sampling import Sampler, draw

WORST = 8
"""How many samples are named."""


@dataclass(frozen=True)
class ClassToll:
    """What one class lost (ours).

    Attributes:
        label: the class; ``None`` where the generator knows none, and all samples are one.
        n: samples of it.
        accuracy: share of the student's that show it, and ``teacher_accuracy``; ``None`` without
            classes.
        frechet: intra-class Frechet distance between student's and teacher's samples (after the
            intra-FID of Miyato & Koyama 2018); ``floor``: that between two halves of the teacher's,
            what counts of this size give by chance.
        diversity: mean distance of two samples of the class for the student, over the teacher's.
        agreement: mean distance between both for one latent, over that of two samples of the
            teacher: 0 is the same image, 1 any other of the class.
    """

    label: int | None
    n: int
    accuracy: float | None
    teacher_accuracy: float | None
    frechet: float
    floor: float
    diversity: float
    agreement: float


@dataclass(frozen=True)
class Toll:
    """What compression took away in all (ours).

    Attributes:
        classes: one entry a class, the largest ``frechet`` first.
        worst: numbers of the samples that are farthest from the teacher's for the same input, the
            worst first, and ``distances`` in the features, over the teacher's mean distance.
        lost: classes whose right share fell to less than half of the teacher's.
        diversity: mean over classes of `ClassToll.diversity`.
        protocol: n, seed and features.
        latents: what was lost around single latents; ``None`` where there are none.
    """

    classes: tuple[ClassToll, ...]
    worst: tuple[int, ...]
    distances: tuple[float, ...]
    lost: tuple[int, ...]
    diversity: float
    protocol: dict[str, Any]
    latents: LatentToll | None = None

    def record(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Toll:
        """Return what `record` was made of, from JSON or not."""
        classes = tuple(ClassToll(**one) for one in record["classes"])
        lists = {k: tuple(record[k]) for k in ("worst", "distances", "lost")}
        around = record.get("latents")  # older records have none
        if around is not None:
            values: dict[str, Any] = dict(around)
            values |= {key: tuple(around[key]) for key in ("worst", "ratios")}
            around = LatentToll(**values)
        return cls(
            classes, **lists, diversity=record["diversity"], protocol=record["protocol"],
            latents=around,
        )  # fmt: skip


def what_was_taken(
    teacher: nn.Module,
    student: nn.Module,
    sampler: Sampler,
    *,
    n: int = 2000,
    seed: int = 0,
    latents: int = 64,
    features: Features | None = None,
    device: str | torch.device = "cpu",
    seen: Sequence[Described] | None = None,
) -> Toll:
    """Compare ``student`` with ``teacher`` on the same ``n`` inputs, class by class.

    Around ``latents`` of other inputs, how far outputs spread (`latent_toll`); 0: not looked at.
    All distances are Euclidean in the features. A class of fewer than 4 samples is left out.
    ``seen``: what the features told of teacher's and student's ``n`` samples already, by
    `evaluate` with the same seed; they are not made again then.

    Raises:
        DataError: the images do not fit the features, or no class has 4 samples.
    """
    view = EmbeddedFeatures() if features is None else features
    if seen is None:
        seen = [
            describe_all(draw(net, sampler, n, seed=seed, device=device), view)
            for net in (teacher, student)
        ]
    (theirs, told, asked), (own, said, _) = seen
    labels = torch.full((len(own),), -1) if asked is None else asked
    right: list[list[float | None]] = [[], []]
    if asked is not None and told is not None and said is not None:
        right = [per_class_accuracy(x, asked, view.n_classes) for x in (told, said)]
    found = []
    for label in labels.unique().tolist():
        here = labels == label
        if int(here.sum()) < 4:
            continue
        known = (right[0][label], right[1][label]) if right[0] else (None, None)
        found.append(_of_class(None if asked is None else label, theirs[here], own[here], known))
    if not found:
        raise DataError(f"n={n} gives no class 4 samples to compare; ask for more")
    apart = (own - theirs).norm(dim=1) / mean_distance(theirs)
    order = apart.argsort(descending=True)[:WORST]
    lost = [
        c.label for c in found
        if c.label is not None and c.accuracy is not None and c.teacher_accuracy is not None
        and c.accuracy < c.teacher_accuracy / 2
    ]  # fmt: skip
    return Toll(
        tuple(sorted(found, key=lambda c: -c.frechet)),
        tuple(order.tolist()),
        tuple(apart[order].tolist()),
        tuple(lost),
        sum(c.diversity for c in found) / len(found),
        {"n": n, "seed": seed, "features": view.name},
        latent_toll(teacher, student, sampler, view, n=latents, seed=seed + 1, device=device)
        if latents
        else None,
    )


def _of_class(
    label: int | None, theirs: Tensor, own: Tensor, right: tuple[float | None, float | None]
) -> ClassToll:
    spread = mean_distance(theirs)
    half = len(theirs) // 2
    sets = [FeatureStatistics.of(x) for x in (theirs, own, theirs[:half], theirs[half:])]
    return ClassToll(
        label,
        len(own),
        right[1],
        right[0],
        frechet_distance(sets[0], sets[1]),
        frechet_distance(sets[2], sets[3]),
        mean_distance(own) / spread,
        float((own - theirs).norm(dim=1).mean()) / spread,
    )


def mean_distance(x: Tensor) -> float:
    """Return the mean Euclidean distance of two different rows of (n, d); above 0."""
    total = torch.cdist(x, x).sum() / (len(x) * (len(x) - 1))
    return max(float(total), 1e-12)
