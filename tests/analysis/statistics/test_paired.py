"""Paired tests: by hand, by enumerating signs, and against scipy."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.analysis import statistics

pytestmark = pytest.mark.filterwarnings("error")


def two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def t4_tail(t: float) -> float:
    """P(T > t) with 4 degrees of freedom, in closed form."""
    s = 1 + t * t / 4
    return 0.5 - 3 / 8 * t / math.sqrt(s) * (1 - t * t / (12 * s))


# ---- Wilcoxon -----------------------------------------------------------------------------------


def test_wilcoxon_by_hand() -> None:
    """Ranks 1 to 5, the largest negative: W+ = 10, W- = 5; of 32 sign patterns 10 have a sum of 5 or less."""
    found = statistics.wilcoxon_signed_rank([2, 3, 4, 5, 1], [1, 1, 1, 1, 6])
    assert (found.test, found.n, found.statistic, found.effect_name) == (
        "Wilcoxon signed rank",
        5,
        5.0,
        "rank-biserial",
    )
    assert found.effect_size == pytest.approx(1 / 3, rel=1e-12)
    assert found.p_value == pytest.approx(20 / 32, rel=1e-12)


def test_float_noise_does_not_break_ties() -> None:
    """The sizes of .81 - .79 and .68 - .70 are not one float. Ranks 1.5, -1.5, 3: W- = 1.5, variance 3.5 - 6/48."""
    x, y = [0.81, 0.68, 0.53], [0.79, 0.70, 0.50]
    assert abs(x[0] - y[0]) != abs(x[1] - y[1])
    found = statistics.wilcoxon_signed_rank(x, y)
    assert found.statistic == 1.5
    assert found.effect_size == pytest.approx(0.5, rel=1e-12)
    assert found.p_value == pytest.approx(two_sided(1.5 / math.sqrt(3.375)), rel=1e-12)
    # Nor does it make a difference out of none.
    assert 0.1 + 0.2 != 0.3
    assert statistics.wilcoxon_signed_rank([0.1 + 0.2, 0.5], [0.3, 0.4]).n == 1


def test_zeros_are_dropped() -> None:
    """0, 1, 2, 3: W+ = 6, mean 3, variance 3 * 4 * 7/24."""
    found = statistics.wilcoxon_signed_rank([5, 6, 7, 8], [5, 5, 5, 5])
    assert (found.n, found.statistic, found.effect_size) == (3, 0.0, 1.0)
    assert found.p_value == pytest.approx(two_sided(3 / math.sqrt(3.5)), rel=1e-12)
    # 0, 0, 1, -2, 3
    assert statistics.wilcoxon_signed_rank([1, 1, 2, 1, 4], [1, 1, 1, 3, 1]).statistic == 2


@pytest.mark.parametrize(("pairs", "way"), [(50, "exact"), (51, "asymptotic")])
def test_exact_up_to_fifty(pairs: int, way: str) -> None:
    x = np.random.default_rng(0).normal(0.3, 1, pairs)
    expected = {each: scipy.stats.wilcoxon(x, correction=False, method=each).pvalue for each in ("exact", "asymptotic")}
    assert expected["exact"] != pytest.approx(expected["asymptotic"], rel=1e-3)
    assert statistics.wilcoxon_signed_rank(x, np.zeros(pairs)).p_value == pytest.approx(expected[way], rel=1e-12)


def test_one_tie_among_few_is_already_normal() -> None:
    """By default scipy enumerates signs here."""
    x = [1.0, 2.0, 2.0, 4.0, -5.0]
    expected = scipy.stats.wilcoxon(x, correction=False, method="asymptotic").pvalue
    assert statistics.wilcoxon_signed_rank(x, np.zeros(5)).p_value == pytest.approx(expected, rel=1e-12)
    assert scipy.stats.wilcoxon(x).pvalue != pytest.approx(expected, rel=1e-3)


def test_wilcoxon_without_differences() -> None:
    none = statistics.wilcoxon_signed_rank([], [])
    assert none.n == 0
    assert all(map(math.isnan, (none.statistic, none.p_value, none.effect_size)))
    for pairs in (1, 4, 20, 60):
        same = statistics.wilcoxon_signed_rank(np.full(pairs, 0.8), np.full(pairs, 0.8))
        assert (same.n, same.statistic, same.p_value, same.effect_size) == (0, 0.0, 1.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_wilcoxon_enumerated(signs: list[bool]) -> None:
    """Without ties and zeros every pattern of signs is as likely under the null."""
    ranks = np.arange(1, len(signs) + 1)
    differences = np.where(signs, ranks, -ranks).astype(float)
    found = statistics.wilcoxon_signed_rank(differences, np.zeros(len(signs)))
    null = [int(ranks[list(pattern)].sum()) for pattern in product([False, True], repeat=len(signs))]
    tail = sum(each <= found.statistic for each in null)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail / len(null)), rel=1e-12)


PAIRS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.sampled_from([0.5, 10.0, 64.0]))
def test_wilcoxon_facts(pairs: list[tuple[int, int]], scale: float) -> None:
    x, y = np.array(pairs, dtype=float).T / 20
    found, swapped = statistics.wilcoxon_signed_rank(x, y), statistics.wilcoxon_signed_rank(y, x)
    assert swapped.effect_size == -found.effect_size
    assert (swapped.statistic, swapped.n) == (found.statistic, found.n)
    assert swapped.p_value == pytest.approx(found.p_value, rel=1e-12)
    assert 0 <= found.p_value <= 1
    assert -1 <= found.effect_size <= 1
    scaled = statistics.wilcoxon_signed_rank(scale * x, scale * y)
    assert scaled.p_value == pytest.approx(found.p_value, rel=1e-12)
    # What is added to both does not count, though it changes the last bits of their difference.
    moved = statistics.wilcoxon_signed_rank(x + 0.1, y + 0.1)
    assert (moved.statistic, moved.n) == (found.statistic, found.n)


# ---- TOST ---------------------------------------------------------------------------------------


def test_tost_by_hand() -> None:
    """Differences .01, -.01, .02, 0, .01: mean .006, variance .00052/4, error sqrt(.000026)."""
    x, y = [0.81, 0.79, 0.92, 0.70, 0.61], [0.80, 0.80, 0.90, 0.70, 0.60]
    found = statistics.tost_paired(x, y, -0.02, 0.02)
    error = math.sqrt(26e-6)
    assert (found.n, found.difference) == (5, pytest.approx(0.006))
    assert found.t_low == pytest.approx(0.026 / error)
    assert found.t_upp == pytest.approx(-0.014 / error)
    assert found.p_low == pytest.approx(t4_tail(0.026 / error))
    assert found.p_upp == pytest.approx(t4_tail(0.014 / error))
    assert found.p_value == found.p_upp == pytest.approx(0.0258, abs=5e-5)
    assert found.equivalent
    half = 2.131846786 * error  # the 95 % quantile of t with 4 degrees of freedom
    assert (found.ci_low, found.ci_high) == (pytest.approx(0.006 - half), pytest.approx(0.006 + half))
    assert not statistics.tost_paired(x, y, -0.02, 0.012).equivalent


def test_tost_without_spread() -> None:
    """The error is 0: differences are known to lie between the margins, beyond one, or on it."""
    y = np.array([1.0, 2.0, 4.0])
    between = statistics.tost_paired(y + 0.5, y, -1, 1)
    assert (between.t_low, between.t_upp, between.p_value, between.equivalent) == (math.inf, -math.inf, 0.0, True)
    assert between.ci_low == between.ci_high == 0.5
    beyond = statistics.tost_paired(y + 2, y, -1, 1)
    assert (beyond.t_upp, beyond.p_value, beyond.equivalent) == (math.inf, 1.0, False)
    on = statistics.tost_paired(y + 1, y, -1, 1)
    assert (on.t_upp, on.p_value, on.equivalent) == (0.0, 0.5, False)
    noisy = statistics.tost_paired([0.81, 0.79, 0.32], [0.79, 0.77, 0.30], -0.02, 0.02)
    assert (noisy.t_upp, noisy.p_value, noisy.difference) == (0.0, 0.5, 0.02)


def test_tost_of_too_few() -> None:
    one = statistics.tost_paired([0.8], [0.7], -1, 1)
    assert (one.n, one.equivalent, one.difference) == (1, False, pytest.approx(0.1))
    none = statistics.tost_paired([], [], -1, 1)
    for found in (one, none):
        values = (found.t_low, found.t_upp, found.p_low, found.p_upp, found.p_value, found.ci_low, found.ci_high)
        assert all(map(math.isnan, values))
    assert none.n == 0
    assert math.isnan(none.difference)


@pytest.mark.parametrize(("low", "high"), [(1, -1), (0, 0), (-math.inf, 1), (math.nan, 1)])
def test_margins_in_order(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="margins: must be finite and in order"):
        statistics.tost_paired([1, 2], [1, 3], low, high)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20), st.floats(0.05, 0.5))
def test_equivalent_where_the_interval_lies_between_the_margins(
    pairs: list[tuple[float, float]], margin: float
) -> None:
    x, y = np.array(pairs).T
    found, swapped = statistics.tost_paired(x, y, -margin, margin), statistics.tost_paired(y, x, -margin, margin)
    assert 0 <= found.p_value <= 1
    if abs(found.p_value - 0.05) > 1e-9:
        assert found.equivalent == (-margin < found.ci_low and found.ci_high < margin)
    assert swapped.t_low == pytest.approx(-found.t_upp, rel=1e-9)
    assert swapped.p_value == pytest.approx(found.p_value, abs=1e-9)


# ---- Nadeau-Bengio ------------------------------------------------------------------------------


def test_nadeau_bengio_by_hand() -> None:
    """Mean .02, variance .00025; (1/5 + 1/4) .00025 = .0001125, t = .02/.0106066."""
    found = statistics.nadeau_bengio([0.01, 0.03, 0.02, 0.04, 0.0], 1 / 4)
    error = math.sqrt(0.0001125)
    assert (found.test, found.n, found.effect_name) == ("Nadeau-Bengio", 5, "mean difference")
    assert found.statistic == pytest.approx(0.02 / error)
    assert found.effect_size == pytest.approx(0.02)
    assert found.p_value == pytest.approx(2 * t4_tail(0.02 / error))
    assert found.p_value == pytest.approx(0.132419, abs=5e-7)
    half = 2.776445105 * error  # the 97.5 % quantile of t with 4 degrees of freedom
    assert (found.low, found.high) == (pytest.approx(0.02 - half), pytest.approx(0.02 + half))
    # 90 %: the 95 % quantile.
    narrow = statistics.nadeau_bengio([0.01, 0.03, 0.02, 0.04, 0.0], 1 / 4, level=0.9)
    assert narrow.high == pytest.approx(0.02 + 2.131846786 * error)
    assert narrow.p_value == found.p_value


def test_without_overlap_it_is_the_t_test() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.03, 12)
    found, reference = statistics.nadeau_bengio(differences, 0), scipy.stats.ttest_1samp(differences, 0)
    assert found.statistic == pytest.approx(reference.statistic, rel=1e-12)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval()), rel=1e-9)


def test_nadeau_bengio_at_the_ends() -> None:
    none, one = statistics.nadeau_bengio([], 0.25), statistics.nadeau_bengio([0.1], 0.25)
    assert (none.n, one.n, one.effect_size) == (0, 1, 0.1)
    assert math.isnan(none.effect_size)
    for found in (none, one):
        assert all(map(math.isnan, (found.statistic, found.p_value, found.low, found.high)))
    equal = statistics.nadeau_bengio([0.1, 0.1, 0.1], 0.5)  # whose mean by summing is not .1
    assert (equal.statistic, equal.p_value, equal.low, equal.high) == (math.inf, 0.0, 0.1, 0.1)
    nothing = statistics.nadeau_bengio(np.zeros(5), 0.25)
    assert (nothing.statistic, nothing.p_value, nothing.low, nothing.high) == (0.0, 1.0, 0.0, 0.0)
    noise = statistics.nadeau_bengio([1e-17, 3e-17, 2e-17, 2e-17, 1e-17], 0.25)  # divided by itself, p = .05
    assert (noise.statistic, noise.p_value, noise.effect_size) == (0.0, 1.0, 0.0)
    for ratio in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="test_to_train: must be finite"):
            statistics.nadeau_bengio([1, 2], ratio)
    with pytest.raises(ValueError, match="level: must lie between 0 and 1"):
        statistics.nadeau_bengio([1, 2], 0.25, level=95)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=25), st.floats(0.05, 1), st.floats(0.01, 100))
def test_nadeau_bengio_facts(tens: list[int], ratio: float, scale: float) -> None:
    differences = np.array(tens) / 1000
    found, mirrored = statistics.nadeau_bengio(differences, ratio), statistics.nadeau_bengio(-differences, ratio)
    scaled = statistics.nadeau_bengio(scale * differences, ratio)
    assert mirrored.p_value == pytest.approx(found.p_value, rel=1e-9)
    assert 0 <= found.p_value <= 1
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-12)
    assert scaled.p_value == pytest.approx(found.p_value, rel=1e-6, abs=1e-12)
    assert scaled.high == pytest.approx(scale * found.high, rel=1e-9, abs=1e-10)  # equal ones are rounded
    # Overlap only ever widens.
    assert found.p_value >= statistics.nadeau_bengio(differences, 0).p_value - 1e-12
