"""Friedman and Nemenyi: by hand, against scipy and Demšar's table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.analysis import statistics

pytestmark = pytest.mark.filterwarnings("error")

# Three cases; ranks 1 2 3, 1 3 2, 1 2 3; rank sums 3, 7, 8.
HAND = [[0.1, 0.2, 0.3], [0.4, 0.9, 0.5], [0.0, 0.6, 0.7]]

TABLES = st.integers(2, 5).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k), min_size=2, max_size=12)
)


def test_friedman_by_hand() -> None:
    """12/36 (9 + 49 + 64) - 36 = 14/3; W = (14/3)/6; F = 2 (14/3)/(6 - 14/3) = 7."""
    found = statistics.friedman(HAND)
    assert (found.n, found.k) == (3, 3)
    np.testing.assert_allclose(found.mean_ranks, [1, 7 / 3, 8 / 3], rtol=1e-12)
    assert found.chi2 == pytest.approx(14 / 3, rel=1e-12)
    assert found.p_value == pytest.approx(math.exp(-7 / 3), rel=1e-12)  # 2 degrees of freedom
    assert found.kendall_w == pytest.approx(7 / 9, rel=1e-12)
    assert found.f == pytest.approx(7.0, rel=1e-12)
    assert found.f_p_value == pytest.approx((1 + 2 * 7 / 4) ** -2, rel=1e-12)  # 2 and 4 degrees of freedom


def test_friedman_corrects_for_ties() -> None:
    """Ranks 1.5 1.5 3 and 1 2 3: rank sums 2.5, 3.5, 6, squares from 4: 6.5; within 1.5 + 2: chi2 = 2 * 6.5/3.5."""
    found = statistics.friedman([[1, 1, 2], [1, 2, 3]])
    assert found.chi2 == pytest.approx(26 / 7, rel=1e-12)
    assert found.kendall_w == pytest.approx(13 / 14, rel=1e-12)
    assert found.f == pytest.approx((26 / 7) / (4 - 26 / 7), rel=1e-12)


def test_two_models_are_the_sign_test() -> None:
    """With k = 2, chi2 = (wins - losses)^2 / (wins + losses)."""
    found = statistics.friedman([[0.8, 0.7], [0.9, 0.6], [0.5, 0.6], [0.9, 0.1], [0.3, 0.3]])
    assert found.chi2 == pytest.approx((3 - 1) ** 2 / 4, rel=1e-12)
    np.testing.assert_array_equal(found.mean_ranks, [1.7, 1.3])


def test_full_agreement() -> None:
    """All cases in one order: W = 1 and F is infinite, not a large number from rounding."""
    for n, k in [(7, 3), (10, 6), (30, 7), (11, 9)]:
        found = statistics.friedman(np.tile(np.arange(k), (n, 1)))
        assert (found.kendall_w, found.f, found.f_p_value) == (1.0, math.inf, 0.0)
        assert found.chi2 == pytest.approx(n * (k - 1), rel=1e-12)


def test_no_preference() -> None:
    found = statistics.friedman([[1, 2, 3], [2, 3, 1], [3, 1, 2]])
    assert (found.chi2, found.p_value, found.f, found.f_p_value, found.kendall_w) == (0, 1, 0, 1, 0)


@pytest.mark.parametrize("values", [np.empty((0, 3)), np.ones((4, 3)), np.arange(4.0)[:, None]])
def test_friedman_without_a_result(values: np.ndarray) -> None:
    found = statistics.friedman(values)
    assert (found.n, found.k) == values.shape
    assert all(map(math.isnan, (found.chi2, found.p_value, found.f, found.f_p_value, found.kendall_w)))
    assert found.mean_ranks.shape == values.shape[1:]
    assert np.isnan(found.mean_ranks).all() == (len(values) == 0)


def test_a_single_case_has_no_f() -> None:
    found = statistics.friedman([[3, 1, 2]])
    assert (found.chi2, found.kendall_w) == (2.0, 1.0)
    assert math.isnan(found.f)
    assert math.isnan(found.f_p_value)


@settings(max_examples=100, deadline=None)
@given(TABLES)
def test_friedman_facts(rows: list[list[int]]) -> None:
    values = np.array(rows, dtype=float)
    n, k = values.shape
    found = statistics.friedman(values)
    if all(len(set(row)) == 1 for row in rows):
        assert math.isnan(found.chi2)
        return
    assert 0 <= found.p_value <= 1
    assert 0 <= found.kendall_w <= 1
    assert found.f >= 0
    assert found.mean_ranks.sum() == pytest.approx(k * (k + 1) / 2)
    assert found.kendall_w == pytest.approx(found.chi2 / (n * (k - 1)), abs=1e-12)
    if found.kendall_w < 1:
        assert found.f == pytest.approx((n - 1) * found.chi2 / (n * (k - 1) - found.chi2), rel=1e-9)
        assert found.f_p_value == pytest.approx(scipy.stats.f.sf(found.f, k - 1, (k - 1) * (n - 1)), rel=1e-9)
    reversed_models = statistics.friedman(np.exp(values[:, ::-1]))
    assert reversed_models.chi2 == found.chi2
    np.testing.assert_array_equal(reversed_models.mean_ranks[::-1], found.mean_ranks)
    if k > 2:
        reference = scipy.stats.friedmanchisquare(*values.T)
        assert found.chi2 == pytest.approx(reference.statistic, abs=1e-9)
        assert found.p_value == pytest.approx(reference.pvalue, abs=1e-9)


# ---- Nemenyi ------------------------------------------------------------------------------------

# Demšar (J. Mach. Learn. Res. 7, 2006), table 5a: q_alpha / sqrt(2) for 2 to 10 models.
CRITICAL = {
    0.05: [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164],
    0.10: [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920],
}


@pytest.mark.parametrize("alpha", CRITICAL)
def test_critical_differences_are_the_published_ones(alpha: float) -> None:
    for k, critical in enumerate(CRITICAL[alpha], start=2):
        n = 14
        values = np.random.default_rng(k).random((n, k))
        found = statistics.nemenyi(values, alpha).critical_difference
        assert found / math.sqrt(k * (k + 1) / (6 * n)) == pytest.approx(critical, abs=0.0011)


def test_critical_difference_of_demsars_example() -> None:
    """Four classifiers on 14 data sets: 2.569 sqrt(4 * 5/(6 * 14)) = 1.25."""
    found = statistics.nemenyi(np.random.default_rng(0).random((14, 4)))
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)


def test_nemenyi_by_hand() -> None:
    """Mean ranks 1, 7/3, 8/3; unit sqrt(12/18)."""
    found = statistics.nemenyi(HAND)
    unit = math.sqrt(2 / 3)
    np.testing.assert_allclose(found.mean_ranks, [1, 7 / 3, 8 / 3], rtol=1e-12)
    expected = np.array([[0, -4 / 3, -5 / 3], [4 / 3, 0, -1 / 3], [5 / 3, 1 / 3, 0]]) / unit
    np.testing.assert_allclose(found.q, expected, rtol=1e-12, atol=1e-15)
    for i in range(3):
        for j in range(3):
            assert found.p_values[i, j] == pytest.approx(range_tail(abs(expected[i, j]) * math.sqrt(2), 3), abs=1e-7)


def range_tail(width: float, k: int) -> float:
    """P(the range of k standard normal values > width), by the trapezoid rule over the smallest."""
    smallest = np.linspace(-9, 9, 20001)
    others = (scipy.stats.norm.cdf(smallest + width) - scipy.stats.norm.cdf(smallest)) ** (k - 1)
    return 1 - float(np.trapezoid(k * scipy.stats.norm.pdf(smallest) * others, smallest))


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_nemenyi_facts(rows: list[list[int]]) -> None:
    values = np.array(rows, dtype=float)
    k = values.shape[1]
    found = statistics.nemenyi(values)
    np.testing.assert_array_equal(found.p_values, found.p_values.T)
    np.testing.assert_array_equal(np.diag(found.p_values), np.ones(k))
    np.testing.assert_allclose(found.q, -found.q.T, atol=1e-12)
    assert ((found.p_values >= 0) & (found.p_values <= 1)).all()
    # Beyond the critical difference and p < .05 are one thing.
    apart = np.abs(found.mean_ranks[:, None] - found.mean_ranks)
    np.testing.assert_array_equal(apart > found.critical_difference, found.p_values < 0.05)
    if k == 2:
        q = abs(found.q[0, 1])
        assert found.p_values[0, 1] == pytest.approx(math.erfc(q / math.sqrt(2)), abs=1e-9)


def test_nemenyi_does_not_correct_for_ties() -> None:
    found = statistics.nemenyi(np.ones((5, 3)))
    np.testing.assert_array_equal(found.q, np.zeros((3, 3)))
    np.testing.assert_array_equal(found.p_values, np.ones((3, 3)))
    one_differs = statistics.nemenyi([[1, 1, 2], [1, 1, 1]])
    assert one_differs.q[2, 0] == pytest.approx((2.5 - 1.75) / math.sqrt(12 / 12), rel=1e-12)


@pytest.mark.parametrize("values", [np.empty((0, 3)), np.ones((4, 1))])
def test_nemenyi_without_a_result(values: np.ndarray) -> None:
    found = statistics.nemenyi(values)
    assert math.isnan(found.critical_difference)
    assert np.isnan(found.q).all()
    assert np.isnan(found.p_values).all()
    assert found.q.shape == found.p_values.shape == (values.shape[1], values.shape[1])


def test_alpha_is_a_probability() -> None:
    with pytest.raises(ValueError, match="alpha: must lie between 0 and 1, not 5"):
        statistics.nemenyi(HAND, alpha=5)
