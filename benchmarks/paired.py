"""What may be said of two methods: paired differences, an interval, a test, one of three words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
Word = Literal["better", "worse", "not told apart"]


@dataclass(frozen=True)
class Comparison:
    """One method against another on the seeds that both have (ours).

    Attributes:
        differences: one a seed, method minus other.
        low, high: bootstrap interval of their mean.
        p: of Wilcoxon's signed-rank test, two-sided; ``adjusted`` by Holm among all that are told
            in one table.
        word: what may be said of the method; no other word is used.
    """

    differences: tuple[float, ...]
    low: float
    high: float
    p: float
    adjusted: float
    word: Word

    @property
    def mean(self) -> float:
        """Mean difference."""
        return float(np.mean(self.differences))


def bootstrap_interval(differences: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of the mean over seeds (Efron 1979), at `LEVEL`.

    Of one difference there is no interval: the whole line.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        return -np.inf, np.inf
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def signed_rank(differences: Sequence[float]) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test (1945); 1 where nothing differs."""
    from scipy.stats import wilcoxon

    if len(differences) < 2 or not np.any(differences):
        return 1.0
    found: Any = wilcoxon(differences)
    return float(found.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm (1979), in the order given."""
    order = np.argsort(ps, kind="stable")
    adjusted, largest = np.empty(len(ps)), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = largest
    return adjusted.tolist()


def compare(
    method: Mapping[str, Mapping[int, float]],
    other: Mapping[int, float],
    *,
    lower_is_better: bool = True,
) -> dict[str, Comparison]:
    """Compare each method (label to figure by seed) with ``other``, on the seeds they share.

    A method is better or worse where Holm's p is below 1 - `LEVEL` *and* the interval leaves out 0;
    in all other cases the two are not told apart. Methods that share no seed are left out.
    """
    pairs = {
        label: tuple(own[s] - other[s] for s in sorted(own.keys() & other.keys()))
        for label, own in method.items()
    }
    pairs = {label: differences for label, differences in pairs.items() if differences}
    ps = {label: signed_rank(d) for label, d in pairs.items()}
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    found = {}
    for label, differences in pairs.items():
        low, high = bootstrap_interval(differences)
        word: Word = "not told apart"
        if adjusted[label] < 1 - LEVEL and (low > 0 or high < 0):
            word = "better" if (high < 0) == lower_is_better else "worse"
        found[label] = Comparison(differences, low, high, ps[label], adjusted[label], word)
    return found
