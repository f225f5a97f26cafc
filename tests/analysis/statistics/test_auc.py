"""DeLong: by hand, pair by pair, against scikit-learn, and by its facts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from eus_ray.analysis import statistics

pytestmark = pytest.mark.filterwarnings("error")

# Positives first. a: V10 = 1, 1/2 and V01 = 1/2, 1. b: V10 = 1, 0 and V01 = 1/2, 1/2.
TRUTH = [1, 1, 0, 0]
A, B = [0.9, 0.4, 0.5, 0.1], [0.8, 0.3, 0.6, 0.7]


def test_delong_by_hand() -> None:
    """cov(V10) = .125 .25 .5, cov(V01) = .125 0 0, each over 2; z = .25 / sqrt(.125 + .25 - .25)."""
    found = statistics.delong(TRUTH, A, B)
    assert (found.auc_a, found.auc_b, found.difference) == (0.75, 0.5, 0.25)
    np.testing.assert_allclose(found.covariance, [[0.125, 0.125], [0.125, 0.25]], rtol=1e-12)
    assert found.z == pytest.approx(math.sqrt(0.5), rel=1e-12)
    assert found.p_value == pytest.approx(math.erfc(0.5), rel=1e-12)
    half = 1.959963984540054 * math.sqrt(0.125)
    assert (found.low_a, found.high_a) == (pytest.approx(0.75 - half), pytest.approx(0.75 + half))
    assert found.high_a > 1  # not clipped
    assert (found.low, found.high) == (pytest.approx(0.25 - half), pytest.approx(0.25 + half))
    assert found.low_b == pytest.approx(0.5 - 1.959963984540054 * 0.5)


def test_difference_of_exactly_0() -> None:
    """The same area by other cases: the covariance is not 0, the difference is."""
    truth = [1, 1, 1, 0, 0, 0, 0]
    one, other = [3, 5, 6, 1, 2, 4, 7], [6, 3, 5, 7, 1, 4, 2]
    found = statistics.delong(truth, one, other)
    assert found.auc_a == found.auc_b
    assert found.covariance[0, 0] > found.covariance[0, 1]
    assert (found.difference, found.z, found.p_value) == (0.0, 0.0, 1.0)
    same = statistics.delong(truth, one, one)
    assert (same.z, same.p_value, same.low, same.high) == (0.0, 1.0, 0.0, 0.0)
    # Nor where nothing at all varies.
    perfect = statistics.delong([1, 1, 0, 0], [4, 3, 2, 1], [8, 9, 0, 1])
    assert (perfect.auc_a, perfect.z, perfect.p_value, perfect.high_a) == (1.0, 0.0, 1.0, 1.0)


def test_a_difference_without_variance() -> None:
    found = statistics.delong([1, 1, 0, 0], [4, 3, 2, 1], [1, 2, 3, 4])
    assert (found.auc_a, found.auc_b, found.z, found.p_value) == (1.0, 0.0, math.inf, 0.0)
    assert statistics.delong([1, 1, 0, 0], [1, 2, 3, 4], [4, 3, 2, 1]).z == -math.inf


@pytest.mark.parametrize("truth", [[], [1, 1, 1], [0, 0]])
def test_one_class_only(truth: list[int]) -> None:
    scores = np.arange(len(truth))
    found = statistics.delong(truth, scores, scores[::-1])
    assert all(map(math.isnan, (found.auc_a, found.low_b, found.difference, found.high, found.z, found.p_value)))
    assert np.isnan(found.covariance).all()


def test_one_case_of_a_class() -> None:
    found = statistics.delong([1, 0, 0], [2, 1, 3], [3, 1, 2])
    assert (found.auc_a, found.auc_b, found.difference) == (0.5, 1.0, -0.5)
    assert all(map(math.isnan, (found.low_a, found.high_b, found.low, found.z, found.p_value)))
    assert np.isnan(found.covariance).all()
    assert statistics.delong([1, 0, 0], [2, 1, 3], [2, 1, 3]).p_value == 1.0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="one dimension and one length"):
        statistics.delong([1, 0, 1], A, B)
    with pytest.raises(ValueError, match="one dimension and one length"):
        statistics.delong([TRUTH], [A], [B])
    with pytest.raises(ValueError, match="must hold 0 and 1 alone"):
        statistics.delong([1, 2, 0, 0], A, B)
    with pytest.raises(ValueError, match="must hold 0 and 1 alone"):
        statistics.delong([1, math.nan, 0, 0], A, B)
    with pytest.raises(ValueError, match="scores hold NaN"):
        statistics.delong(TRUTH, A, [0.1, math.nan, 0.2, 0.3])


def test_infinite_logits_and_levels_are_ordered_as_they_are() -> None:
    logits = statistics.delong(TRUTH, [math.inf, -1.0, 0.0, -math.inf], B)
    assert (logits.auc_a, logits.z) == (0.75, statistics.delong(TRUTH, A, B).z)
    # Two neighbouring levels that are one number in float32.
    levels = np.array([2**24 + 1, 2**24, 2**24, 0])
    assert statistics.delong(TRUTH, levels, B).auc_a == (1 + 1 + 0.5 + 1) / 4
    assert statistics.delong(np.array(TRUTH, dtype=bool), A, B).z == statistics.delong(TRUTH, A, B).z


CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=25)


@settings(max_examples=100, deadline=None)
@given(CASES)
def test_delong_pair_by_pair(cases: list[tuple[bool, int, int]]) -> None:
    truth = np.array([case[0] for case in cases])
    scores = np.array([case[1:] for case in cases], dtype=float).T
    m, n = int(truth.sum()), int((~truth).sum())
    assume(min(m, n) > 1)
    found = statistics.delong(truth, *scores)
    # psi (2, m, n)
    positive, negative = scores[:, truth, None], scores[:, None, ~truth]
    psi = (positive > negative) + 0.5 * (positive == negative)
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    covariance = np.cov(v10) / m + np.cov(v01) / n
    assert (found.auc_a, found.auc_b) == pytest.approx(psi.mean(axis=(1, 2)))
    assert found.auc_a == pytest.approx(roc_auc_score(truth, scores[0]))
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if found.difference == 0:
        assert (found.z, found.p_value) == (0.0, 1.0)
    elif variance > 1e-9:
        assert found.z == pytest.approx(found.difference / math.sqrt(variance), rel=1e-6)
        assert found.p_value == pytest.approx(math.erfc(abs(found.z) / math.sqrt(2)), rel=1e-9)
    swapped, mirrored = statistics.delong(truth, *scores[::-1]), statistics.delong(~truth, *-scores)
    assert (swapped.z, swapped.p_value) == pytest.approx((-found.z, found.p_value), rel=1e-6)
    assert (mirrored.auc_a, mirrored.auc_b) == pytest.approx((found.auc_a, found.auc_b))
    np.testing.assert_allclose(mirrored.covariance, covariance, atol=1e-12)
