"""The Frechet distance against closed forms and independent formulas."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancompress.errors import DataError
from gancompress.metrics.frechet import FeatureStatistics, frechet_distance, symmetric_root


def random_features(seed: int, n: int = 300, d: int = 12) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=rng, dtype=torch.float64)
    return torch.randn(n, d, generator=rng, dtype=torch.float64) @ mix + torch.randn(
        d, generator=rng, dtype=torch.float64
    )


def fixed(mean: torch.Tensor, covariance: torch.Tensor) -> FeatureStatistics:
    """Statistics with exactly this mean and covariance: 2 d points along the principal axes."""
    d = len(mean)
    root = symmetric_root(covariance) * ((2 * d - 1) / 2) ** 0.5
    return FeatureStatistics.of(torch.cat([mean + root, mean - root]))


def by_sqrtm(a: torch.Tensor, b: torch.Tensor) -> float:
    """The textbook formula of Heusel et al. through scipy's general matrix square root."""
    x, y = a.numpy(), b.numpy()
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(0) - y.mean(0)
    return float(gap @ gap + np.trace(cx + cy - 2 * scipy.linalg.sqrtm(cx @ cy).real))


def test_identical_sets_are_at_zero_even_when_the_covariance_is_singular():
    for features in (random_features(0), random_features(1, n=5, d=40)):
        statistics = FeatureStatistics.of(features)
        scale = float(statistics.covariance.trace())
        assert frechet_distance(statistics, statistics) <= 1e-12 * scale


def test_known_gaussians():
    mean = torch.zeros(3, dtype=torch.float64)
    first = fixed(mean, torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)))
    second = fixed(mean + 2, torch.diag(torch.tensor([4.0, 4.0, 1.0], dtype=torch.float64)))
    # |m1 - m2|^2 + sum (s1 - s2)^2 = 12 + (1 + 0 + 4)
    assert frechet_distance(first, second) == pytest.approx(17.0, rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 30))
def test_equals_the_textbook_formula_and_is_symmetric(seed: int, d: int):
    a, b = random_features(seed, d=d), random_features(seed + 1, d=d)
    first, second = FeatureStatistics.of(a), FeatureStatistics.of(b)
    assert frechet_distance(first, second) == pytest.approx(by_sqrtm(a, b), rel=1e-8)
    assert frechet_distance(first, second) == pytest.approx(
        frechet_distance(second, first), rel=1e-10
    )


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.floats(-1e4, 1e4))
def test_streaming_equals_the_whole_set(sizes: list[int], offset: float):
    features = random_features(3, n=sum(sizes) + 1) + offset
    streamed = FeatureStatistics()
    for part in features.split([*sizes, 1]):
        streamed.update(part)
    assert streamed.n == len(features)
    torch.testing.assert_close(streamed.mean, features.mean(0), rtol=1e-12, atol=1e-12)
    expected = torch.from_numpy(np.cov(features.numpy(), rowvar=False))
    torch.testing.assert_close(streamed.covariance, expected, rtol=1e-9, atol=1e-9)


def test_rotation_leaves_the_distance_alone():
    a, b = random_features(5), random_features(6)
    turn = torch.linalg.qr(random_features(7, n=12)).Q
    plain = frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))
    turned = frechet_distance(FeatureStatistics.of(a @ turn), FeatureStatistics.of(b @ turn))
    assert turned == pytest.approx(plain, rel=1e-9)


def test_bad_input_is_refused():
    statistics = FeatureStatistics()
    with pytest.raises(DataError, match="no features"):
        _ = statistics.mean
    with pytest.raises(DataError, match="NaN"):
        statistics.update(torch.full((3, 2), float("nan")))
    with pytest.raises(DataError, match=r"\(n, d\)"):
        statistics.update(torch.zeros(3))
    statistics.update(torch.zeros(1, 4))
    with pytest.raises(DataError, match="at least 2"):
        _ = statistics.covariance
    with pytest.raises(DataError, match="width 5 after width 4"):
        statistics.update(torch.zeros(2, 5))
    with pytest.raises(DataError, match="cannot be compared"):
        frechet_distance(
            FeatureStatistics.of(random_features(0, d=4)),
            FeatureStatistics.of(random_features(0, d=5)),
        )


@pytest.mark.parity
def test_equals_torch_fidelity_on_the_same_features():
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = random_features(8, n=400, d=64), random_features(9, n=400, d=64)
    theirs = fid.fid_statistics_to_metric(
        fid.fid_features_to_statistics(a), fid.fid_features_to_statistics(b), verbose=False
    )["frechet_inception_distance"]
    ours = frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_a_distance_is_never_negative():
    for seed in range(40):
        statistics = FeatureStatistics.of(random_features(seed) * 10.0 ** (seed % 7))
        assert frechet_distance(statistics, statistics) >= 0
