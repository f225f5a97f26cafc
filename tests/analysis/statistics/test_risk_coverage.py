"""Risk and coverage: by hand, against a loop over all orders, and by its facts."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.analysis.statistics import RiskCoverage, risk_coverage

pytestmark = pytest.mark.filterwarnings("error")

CASES = st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9, 1.0]), st.floats(0, 1)), min_size=1, max_size=6)
UNIQUE = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30, unique_by=lambda case: case[0])


def of(cases: list[tuple[float, float]]) -> RiskCoverage:
    return risk_coverage([agreement for agreement, _ in cases], [dsc for _, dsc in cases])


def test_risk_by_hand() -> None:
    """In the order of agreement the losses are .1, .5, .3 and 1."""
    found = risk_coverage([0.2, 0.9, 0.5, 0.7], [0.0, 0.9, 0.7, 0.5])
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.risk, [0.1, 0.6 / 2, 0.9 / 3, 1.9 / 4])
    assert found.aurc == pytest.approx((0.1 + 0.3 + 0.3 + 0.475) / 4)
    assert found.aurc_random == pytest.approx(1.9 / 4)
    assert found.aurc_perfect == pytest.approx((0.1 + 0.2 + 0.3 + 0.475) / 4)


def test_ties_have_their_mean_over_orders() -> None:
    """The two with agreement .5 have losses 0 and 1: after .2 the risk is (.2 + .5) / 2, in either order of rows."""
    for agreement, dsc in (([0.9, 0.5, 0.5], [0.8, 1, 0]), ([0.5, 0.5, 0.9], [0, 1, 0.8])):
        np.testing.assert_allclose(risk_coverage(agreement, dsc).risk, [0.2, 0.35, 0.4])


@given(UNIQUE)
def test_the_curve_is_that_of_a_loop(cases: list[tuple[float, float]]) -> None:
    kept, risks = [], []
    for _, dsc in sorted(cases, reverse=True):
        kept.append(1 - dsc)
        risks.append(sum(kept) / len(kept))
    np.testing.assert_allclose(of(cases).risk, risks, rtol=1e-12, atol=1e-15)
    assert of(cases).aurc == pytest.approx(sum(risks) / len(risks), rel=1e-12)


@given(CASES)
@settings(max_examples=50, deadline=None)
def test_ties_are_averaged_over_all_orders(cases: list[tuple[float, float]]) -> None:
    orders = []
    for order in itertools.permutations(cases):
        if all(first[0] >= second[0] for first, second in itertools.pairwise(order)):
            losses = [1 - dsc for _, dsc in order]
            orders.append([np.mean(losses[:number]) for number in range(1, len(losses) + 1)])
    np.testing.assert_allclose(of(cases).risk, np.mean(orders, axis=0), rtol=1e-9, atol=1e-12)


@given(CASES)
@settings(max_examples=50, deadline=None)
def test_random_and_perfect_orders_are_the_mean_and_the_least_of_all(cases: list[tuple[float, float]]) -> None:
    areas = []
    for order in itertools.permutations([1 - dsc for _, dsc in cases]):
        areas.append(np.mean([np.mean(order[:number]) for number in range(1, len(order) + 1)]))
    found = of(cases)
    assert found.aurc_random == pytest.approx(np.mean(areas), rel=1e-9, abs=1e-12)
    assert found.aurc_perfect == pytest.approx(min(areas), rel=1e-9, abs=1e-12)
    assert found.aurc_perfect <= found.aurc + 1e-12


@given(CASES, st.randoms())
def test_the_order_of_the_rows_changes_nothing(cases: list[tuple[float, float]], random: Random) -> None:
    shuffled = cases.copy()
    random.shuffle(shuffled)
    np.testing.assert_allclose(of(shuffled).risk, of(cases).risk, rtol=1e-12, atol=1e-15)


def test_agreement_that_tells_nothing_is_as_good_as_chance() -> None:
    found = risk_coverage([1, 1, 1], [0.2, 0.9, 0.4])
    assert found.aurc == pytest.approx(found.aurc_random)
    np.testing.assert_allclose(found.risk, 0.5)


def test_no_images() -> None:
    found = risk_coverage([], [])
    assert found.coverage.tolist() == found.risk.tolist() == []
    assert np.isnan([found.aurc, found.aurc_random, found.aurc_perfect]).all()


@pytest.mark.parametrize(
    ("agreement", "dsc", "said"),
    [
        ([1, np.nan], [1, 1], "agreement: holds NaN"),
        ([1, 1], [1, np.nan], "dsc: holds NaN"),
        ([1], [1, 1], "agreement and dsc must be of the same images, not of 1 and 2"),
    ],
)
def test_what_is_refused(agreement: list[float], dsc: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        risk_coverage(agreement, dsc)
