"""The sign-flip test against scipy's permutation test, numbers worked by hand, and its own p under shifts."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.analysis.statistics import sign_flip_test
from eus_ray.analysis.statistics.sign_flips import DRAWS, MOST_FOR_ALL_FLIPS, sign_flip_tests


def even(differences: np.ndarray) -> np.ndarray:
    return np.ones(len(differences))


@pytest.mark.parametrize("number", [2, 3, 5, 6, 9, MOST_FOR_ALL_FLIPS])
def test_all_flips_are_those_of_scipy(number: int) -> None:
    values = np.round(np.random.default_rng(number).normal(0.3, 1, number), 2)
    expected = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    found = sign_flip_test(values, even(values))
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.effect_size == pytest.approx(values.mean())


def test_more_patients_are_drawn_flips_near_those_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 40)
    expected = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=40_000, vectorized=True, rng=1
    )
    p_value = sign_flip_test(values, even(values)).p_value
    assert p_value == pytest.approx(expected.pvalue, abs=0.01)
    assert p_value * (DRAWS + 1) == pytest.approx(round(p_value * (DRAWS + 1)), abs=1e-6)
    assert sign_flip_test(np.full(40, 0.1), even(values)).p_value == 1 / (DRAWS + 1)


def test_the_weights_are_those_of_the_mean() -> None:
    """Patients of folds of 1 and 2: the mean of fold means is 1/2 a + 1/4 b + 1/4 c."""
    values, weights = np.array([0.2, 0.6, -0.2]), np.array([2.0, 1.0, 1.0])
    found = sign_flip_test(values, weights)
    assert found.effect_size == pytest.approx(0.2)
    means = [abs(np.dot([0.5, 0.25, 0.25], np.array(signs) * values)) for signs in product((1, -1), repeat=3)]
    assert found.p_value == np.mean([mean >= 0.2 - 1e-12 for mean in means])


def test_six_patients_who_agree_by_hand() -> None:
    """Of 64 flips, the two that leave all signs alike are as far from 0: p = 2/64. The interval, by hand.

    A shift d is not rejected if four flips at least are as far: both alike, and the flips of one patient i. Flipping i
    gives T - x_i/3, which is as far from 0 as the mean after shifts of x_i at least. So the fourth smallest low is the
    smallest x_i.
    """
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = sign_flip_test(values, even(values))
    assert found.p_value == 2 / 64
    assert found.low == pytest.approx(1.0)
    assert found.high == pytest.approx(6.0)


def test_too_few_patients_reject_no_shift() -> None:
    found = sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0], np.ones(5))
    assert (found.p_value, found.low, found.high) == (2 / 32, -math.inf, math.inf)
    assert (sign_flip_test([0.5], [1.0]).p_value, sign_flip_test([0.5], [1.0]).effect_size) == (1.0, 0.5)
    none = sign_flip_test([], [])
    assert none.n == 0
    assert math.isnan(none.p_value)


def test_no_difference_at_all() -> None:
    found = sign_flip_test(np.zeros(8), np.ones(8))
    assert (found.p_value, found.low, found.high) == (1.0, 0.0, 0.0)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_interval_leaves_zero_out_exactly_if_p_is_below_the_level(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 24))
    values = np.array(data.draw(st.lists(st.integers(-3, 9), min_size=number, max_size=number))) / 10
    weights = np.array(data.draw(st.lists(st.integers(1, 3), min_size=number, max_size=number)), float)
    found = sign_flip_test(values, weights)
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
    assert found.low <= found.effect_size + 1e-9
    assert found.high >= found.effect_size - 1e-9


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 30), st.integers(0, 1000))
def test_shifts_inside_the_interval_are_not_rejected_and_those_outside_are(number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(0.2, 1, number), rng.uniform(0.5, 2, number)
    found = sign_flip_test(values, weights)
    for limit, outwards in ((found.low, -1e-6), (found.high, 1e-6)):
        assert sign_flip_test(values - (limit - outwards), weights).p_value >= 0.05
        assert sign_flip_test(values - (limit + outwards), weights).p_value < 0.05


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_the_sign_and_the_unit_of_the_differences_matter_not(number: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.1, 1, number)
    found, turned = sign_flip_test(values, even(values)), sign_flip_test(-1000 * values, even(values))
    assert turned.p_value == found.p_value
    assert (turned.low, turned.high) == pytest.approx((-1000 * found.high, -1000 * found.low))


def test_columns_are_tested_each_as_alone() -> None:
    values = np.random.default_rng(3).normal(0.2, 1, (30, 4))
    weights = np.random.default_rng(4).uniform(1, 2, 30)
    for column, found in zip(values.T, sign_flip_tests(values, weights), strict=True):
        alone = sign_flip_test(column, weights)
        assert found.p_value == alone.p_value
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize(
    ("values", "weights"), [([math.nan], [1]), ([1.0], [0]), ([1.0], [1, 1]), ([math.inf], [1]), ([[1.0]], [1])]
)
def test_what_is_no_sample_is_refused(values: list, weights: list) -> None:
    with pytest.raises(ValueError, match=r"differences|weights"):
        sign_flip_test(values, weights)
