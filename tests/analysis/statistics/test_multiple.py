"""Adjusted p-values and Shapiro-Wilk: by hand, by definition, and against published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.analysis import statistics

pytestmark = pytest.mark.filterwarnings("error")
P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0])), min_size=1, max_size=12)


def test_holm_by_hand() -> None:
    """.005 * 4, .01 * 3, .03 * 2, and .04 * 1, which may not be below the one before."""
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], rtol=1e-12)
    np.testing.assert_allclose(statistics.holm([0.6, 0.5, 0.7]), [1, 1, 1])


def test_benjamini_hochberg_by_hand() -> None:
    """From the top: .04 * 4/4, .03 * 4/3, .01 * 4/2, .005 * 4/1."""
    found = statistics.benjamini_hochberg([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.02, 0.04, 0.04, 0.02], rtol=1e-12)
    # .03 * 3/2 is more than .04 * 3/3.
    np.testing.assert_allclose(statistics.benjamini_hochberg([0.04, 0.03, 0.001]), [0.04, 0.04, 0.003], rtol=1e-12)


@pytest.mark.parametrize("adjust", [statistics.holm, statistics.benjamini_hochberg])
def test_a_test_without_result_is_not_counted(adjust: object) -> None:
    given_values = [0.01, math.nan, 0.04, math.nan]
    found = adjust(given_values)  # type: ignore[operator]
    np.testing.assert_allclose(found[[0, 2]], adjust([0.01, 0.04]))  # type: ignore[operator]
    assert np.isnan(found[[1, 3]]).all()
    assert math.isnan(given_values[1])
    assert np.isnan(adjust([math.nan, math.nan])).all()  # type: ignore[operator]
    assert adjust([]).shape == (0,)  # type: ignore[operator]
    for wrong in ([0.5, 1.1], [-0.1], [math.inf]):
        with pytest.raises(ValueError, match="p-values: must lie in"):
            adjust(wrong)  # type: ignore[operator]
    with pytest.raises(ValueError, match="p-values: must have 1 dimension"):
        adjust([[0.5]])  # type: ignore[operator]


@settings(max_examples=100, deadline=None)
@given(P_VALUES)
def test_adjusted_by_definition(p_values: list[float]) -> None:
    p, m = np.array(p_values), len(p_values)
    order = np.argsort(p, kind="stable")
    holm, running = np.empty(m), 0.0
    for i, place in enumerate(order, start=1):
        running = max(running, min(1.0, (m - i + 1) * p[place]))
        holm[place] = running
    hochberg, running = np.empty(m), 1.0
    for i, place in reversed(list(enumerate(order, start=1))):
        running = min(running, min(1.0, m * p[place] / i))
        hochberg[place] = running
    np.testing.assert_allclose(statistics.holm(p), holm, rtol=1e-12)
    np.testing.assert_allclose(statistics.benjamini_hochberg(p), hochberg, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(P_VALUES, st.randoms(use_true_random=False))
def test_adjusted_facts(p_values: list[float], random: object) -> None:
    p = np.array(p_values)
    shuffled = list(range(len(p)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for adjust in (statistics.holm, statistics.benjamini_hochberg):
        found = adjust(p)
        assert (found >= p * (1 - 1e-12)).all()
        assert (found <= 1).all()
        np.testing.assert_allclose(adjust(p[shuffled]), found[shuffled], rtol=1e-12)
        assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
    assert (statistics.benjamini_hochberg(p) <= statistics.holm(p) * (1 + 1e-12)).all()


# ---- Shapiro-Wilk -------------------------------------------------------------------------------


def test_shapiro_wilk_of_the_first_example() -> None:
    """Weights of 11 men (Shapiro and Wilk, Biometrika 52, 1965): W = .79; R gives p = .006704."""
    found = statistics.shapiro_wilk([148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236])
    assert (found.test, found.n) == ("Shapiro-Wilk", 11)
    assert found.statistic == pytest.approx(0.7888, abs=5e-5)
    assert found.p_value == pytest.approx(0.006704, abs=5e-7)


def test_shapiro_wilk_of_three_is_in_closed_form() -> None:
    """1, 2, 4: W = ((4 - 1)/sqrt 2)^2 / (42/9); p = 6/pi (asin sqrt W - asin sqrt 3/4)."""
    found = statistics.shapiro_wilk([4, 1, 2])
    assert found.statistic == pytest.approx(4.5 / (42 / 9), rel=1e-6)
    expected = 6 / math.pi * (math.asin(math.sqrt(found.statistic)) - math.pi / 3)
    assert found.p_value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.7], [0.7, 0.7, 0.7], [0.1] * 40])
def test_shapiro_wilk_without_a_result(values: list[float]) -> None:
    found = statistics.shapiro_wilk(values)
    assert found.n == len(values)
    assert math.isnan(found.statistic)
    assert math.isnan(found.p_value)


def test_an_infinite_distance_is_not_normal() -> None:
    with pytest.raises(ValueError, match="values: holds infinite values"):
        statistics.shapiro_wilk([1.0, 2.0, math.inf, 4.0])


def test_shapiro_wilk_of_many_values_is_silent() -> None:
    rng = np.random.default_rng(0)
    assert statistics.shapiro_wilk(rng.normal(size=6000)).p_value > 0.01
    assert statistics.shapiro_wilk(rng.exponential(size=6000)).p_value < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-100, 100), min_size=3, max_size=40), st.floats(0.01, 100), st.integers(-50, 50))
def test_shapiro_wilk_facts(values: list[int], scale: float, shift: int) -> None:
    array = np.array(values, dtype=float)
    found, moved = statistics.shapiro_wilk(array), statistics.shapiro_wilk(scale * (array + shift))
    mirrored = statistics.shapiro_wilk(-array[::-1])
    for same in (moved, mirrored):
        assert same.statistic == pytest.approx(found.statistic, rel=1e-6, nan_ok=True)
        assert same.p_value == pytest.approx(found.p_value, rel=1e-3, abs=1e-9, nan_ok=True)
    if len(set(values)) > 1:
        assert 0 < found.statistic <= 1
        assert 0 <= found.p_value <= 1
