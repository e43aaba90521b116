"""Precision, recall, density, coverage against a brute-force reading of the definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancompress.errors import DataError
from gancompress.metrics import prdc as module
from gancompress.metrics.prdc import prdc


def normal(seed: int, n: int, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute_force(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, ...]:
    """The four definitions, point by point in plain Python."""

    def radii(points: list[list[float]]) -> list[float]:
        return [sorted(math.dist(p, q) for q in points)[k] for p in points]

    r, f = real.tolist(), fake.tolist()
    real_radii, fake_radii = radii(r), radii(f)
    balls = [sum(math.dist(p, q) < radius for q, radius in zip(r, real_radii)) for p in f]
    recalled = [any(math.dist(q, p) < radius for p, radius in zip(f, fake_radii)) for q in r]
    covered = [any(math.dist(q, p) < radius for p in f) for q, radius in zip(r, real_radii)]
    return (
        sum(b > 0 for b in balls) / len(f),
        sum(recalled) / len(r),
        sum(balls) / (k * len(f)),
        sum(covered) / len(r),
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(8, 40), st.integers(1, 6))
def test_equals_the_definitions(seed: int, n: int, m: int, k: int):
    real, fake = normal(seed, n), normal(seed + 1, m) * 1.3 + 0.2
    found = prdc(real, fake, k=k)
    expected = brute_force(real, fake, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)


def test_blocks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch):
    real, fake = normal(0, 130), normal(1, 110) + 0.5
    whole = prdc(real, fake)
    monkeypatch.setattr(module, "BLOCK", 17)
    assert prdc(real, fake) == whole


def by_differences(real: torch.Tensor, fake: torch.Tensor, k: int) -> module.PRDC:
    """The four figures from exact differences of all pairs at once."""
    real, fake = real.double(), fake.double()
    far = "donot_use_mm_for_euclid_dist"
    balls = [torch.cdist(s, s, compute_mode=far).kthvalue(k + 1).values for s in (real, fake)]
    between = torch.cdist(real, fake, compute_mode=far)
    inside = between < balls[0][:, None]
    return module.PRDC(
        precision=float(inside.any(0).double().mean()),
        recall=float((between < balls[1][None]).any(1).double().mean()),
        density=int(inside.sum()) / (k * len(fake)),
        coverage=float(inside.any(1).double().mean()),
    )


def twins(seed: int, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on a grid far from zero: many distances are equal, and rows occur many times."""
    rng = torch.Generator().manual_seed(seed)
    real, fake = (torch.randint(0, 4, (300, 6), generator=rng).double() for _ in range(2))
    return real + offset, fake + offset


CASES = {
    "wide": (normal(20, 400, 512), normal(21, 350, 512) * 1.02),
    "twins": twins(0, 0.0),
    "twins far from zero": twins(1, 1e4),
    "one far outlier": (torch.cat([normal(22, 300), normal(23, 1) * 1e6]), normal(24, 300)),
    "an outlier beside which all vanishes": (
        torch.cat([normal(22, 300), normal(23, 1) * 1e30]),
        normal(24, 300),
    ),
    "huge": (normal(25, 200) * 1e150, normal(26, 200) * 1.1e150),
    "tiny": (normal(27, 200) * 1e-60, normal(28, 200) * 1.1e-60),
    "thirty twins of all": (normal(29, 10).repeat(30, 1), normal(30, 200)),
    "all inside": (normal(31, 200), normal(32, 200) * 1e-3),
    "float32": (normal(33, 200).float(), normal(34, 200).float()),
}


@pytest.mark.parametrize("case", CASES)
def test_matrix_products_give_the_figures_of_exact_differences(case: str):
    real, fake = CASES[case]
    assert prdc(real, fake) == by_differences(real, fake, 5)
    assert prdc(real, real.clone()) == by_differences(real, real.clone(), 5)
    far = torch.cdist(real.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    wanted = far.kthvalue(6).values
    assert torch.allclose(module.neighbour_radii(real, 5), wanted, rtol=1e-14, atol=0)


def test_a_coarser_product_is_not_trusted():
    real, fake = CASES["wide"]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert prdc(real, fake) == by_differences(real, fake, 5)
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_same_set_scores_full_marks():
    features = normal(2, 200)
    found = prdc(features, features)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_mode_drop_costs_recall_and_coverage_but_not_precision():
    centres = 30 * normal(3, 10)
    real = torch.cat([c + normal(10 + i, 60) for i, c in enumerate(centres)])
    fake = torch.cat([c + normal(50 + i, 60) for i, c in enumerate(centres)])
    dropped = torch.cat([c + normal(90 + i, 120) for i, c in enumerate(centres[:5])])
    full, half = prdc(real, fake), prdc(real, dropped)
    assert half.precision >= full.precision - 0.05
    assert half.recall <= 0.5
    assert half.coverage <= 0.5
    assert full.recall >= 0.9
    assert full.coverage >= 0.9


def test_outliers_cost_precision_but_not_recall():
    real, fake = normal(4, 300), normal(5, 300)
    spoiled = torch.cat([fake[:150], 50 + 20 * normal(6, 150)])
    assert prdc(real, spoiled).precision <= 0.55
    assert prdc(real, spoiled).recall >= prdc(real, fake).recall - 0.2


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="no 5-th neighbour"):
        prdc(normal(0, 5), normal(1, 50))
    with pytest.raises(DataError, match="one width"):
        prdc(normal(0, 50), normal(1, 50, d=3))
