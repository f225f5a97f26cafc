"""Rank tests between independent groups: by hand, by counting pairs, by counting orders, and against scipy."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.analysis import statistics

pytestmark = pytest.mark.filterwarnings("error")
INF = math.inf

# Few different values, so that most examples have ties, and infinite ones as of missed lesions.
VALUES = st.one_of(st.integers(0, 8).map(float), st.just(INF))
SAMPLES = st.lists(VALUES, min_size=1, max_size=12)


def two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


# ---- Kruskal-Wallis -----------------------------------------------------------------------------


def test_kruskal_wallis_by_hand() -> None:
    """Rank sums 6 and 15: 12/42 (36/3 + 225/3) - 21 = 27/7."""
    found = statistics.kruskal_wallis([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert (found.test, found.n, found.effect_name) == ("Kruskal-Wallis", 6, "epsilon squared")
    assert found.statistic == pytest.approx(27 / 7, rel=1e-12)
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(27 / 14)), rel=1e-12)
    assert found.effect_size == pytest.approx(27 / 35, rel=1e-12)


def test_kruskal_wallis_corrects_for_ties() -> None:
    """Ranks 1.5, 1.5 and 3.5, 3.5: 12/20 (9/2 + 49/2) - 15 = 2.4, divided by 1 - (6 + 6)/60 = .8."""
    found = statistics.kruskal_wallis([[1, 1], [2, 2]])
    assert found.statistic == pytest.approx(3.0, rel=1e-12)
    assert found.effect_size == pytest.approx(1.0, rel=1e-12)


def test_infinite_distances_tie_above_all_others() -> None:
    missed = [[3.0, INF, 5.0], [INF, 4.0, INF], [2.0, 9.0]]
    large = [[3.0, 99.0, 5.0], [99.0, 4.0, 99.0], [2.0, 9.0]]
    assert statistics.kruskal_wallis(missed) == statistics.kruskal_wallis(large)
    assert statistics.dunn(missed) == statistics.dunn(large)
    assert statistics.mann_whitney(*missed[:2]) == statistics.mann_whitney(*large[:2])


@pytest.mark.parametrize(
    "groups", [[], [[1, 2]], [[1, 2], []], [[1, 1], [1]], [[INF], [INF, INF]], [[], []], [[1.0], []]]
)
def test_kruskal_wallis_without_a_result(groups: list[list[float]]) -> None:
    found = statistics.kruskal_wallis(groups)
    assert found.n == sum(map(len, groups))
    assert all(map(math.isnan, (found.statistic, found.p_value, found.effect_size)))


@settings(max_examples=60, deadline=None)
@given(st.lists(SAMPLES, min_size=2, max_size=4))
def test_kruskal_wallis_sees_ranks_alone(groups: list[list[float]]) -> None:
    found = statistics.kruskal_wallis(groups)
    same = statistics.kruskal_wallis([[math.atan(value) for value in group] for group in reversed(groups)])
    if len({value for group in groups for value in group}) == 1:
        assert math.isnan(found.statistic)
        assert math.isnan(same.statistic)
        return
    assert same.statistic == pytest.approx(found.statistic, abs=1e-9)
    assert 0 <= found.p_value <= 1
    assert 0 <= found.effect_size <= 1 + 1e-12
    reference = scipy.stats.kruskal(*[[min(value, 99.0) for value in group] for group in groups])
    assert found.statistic == pytest.approx(reference.statistic, abs=1e-9)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-9)


# ---- Dunn ---------------------------------------------------------------------------------------


def test_dunn_by_hand() -> None:
    """Mean ranks 2, 5, 8 of 9 values: s2 = 9 * 10/12 = 7.5, error sqrt(7.5 * 2/3) = sqrt(5)."""
    pairs = statistics.dunn([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert [(pair.i, pair.j) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    z = [-3 / math.sqrt(5), -6 / math.sqrt(5), -3 / math.sqrt(5)]
    assert [pair.z for pair in pairs] == pytest.approx(z, rel=1e-12)
    p = [two_sided(each) for each in z]
    assert [pair.p_value for pair in pairs] == pytest.approx(p, rel=1e-12)
    assert [pair.p_adjusted for pair in pairs] == pytest.approx([2 * p[0], 3 * p[1], 2 * p[0]], rel=1e-12)


def test_dunn_corrects_for_ties_over_all_groups() -> None:
    """Ranks 1, 3 | 3, 3 | 5: N = 5, one tie of 3. s2 = 30/12 - 24/48 = 2."""
    first, _, third = statistics.dunn([[1, 2], [2, 2], [3]])
    assert first.z == pytest.approx((2 - 3) / math.sqrt(2 * (1 / 2 + 1 / 2)), rel=1e-12)
    assert third.z == pytest.approx((3 - 5) / math.sqrt(2 * (1 / 2 + 1)), rel=1e-12)


def test_dunn_without_a_result() -> None:
    assert statistics.dunn([]) == ()
    assert statistics.dunn([[1, 2]]) == ()
    for pair in statistics.dunn([[2, 2], [2], [2]]):
        assert math.isnan(pair.z)
        assert math.isnan(pair.p_value)
        assert math.isnan(pair.p_adjusted)
    # A group without values has no pairs to adjust for, and takes nothing from the others.
    with_empty = statistics.dunn([[1, 2, 3], [], [4, 5, 7]])
    (alone,) = statistics.dunn([[1, 2, 3], [4, 5, 7]])
    assert [math.isnan(pair.p_adjusted) for pair in with_empty] == [True, False, True]
    assert (with_empty[1].z, with_empty[1].p_adjusted) == (alone.z, alone.p_value)


@settings(max_examples=60, deadline=None)
@given(SAMPLES, SAMPLES)
def test_dunn_of_two_groups_is_kruskal_wallis(x: list[float], y: list[float]) -> None:
    """With two groups z squared is H, so that both have one p-value."""
    (pair,), whole = statistics.dunn([x, y]), statistics.kruskal_wallis([x, y])
    assert pair.z**2 == pytest.approx(whole.statistic, abs=1e-9, nan_ok=True)
    assert pair.p_value == pytest.approx(whole.p_value, abs=1e-7, nan_ok=True)
    (swapped,) = statistics.dunn([y, x])
    assert swapped.z == pytest.approx(-pair.z, abs=1e-12, nan_ok=True)


# ---- Mann-Whitney and Cliff's delta -------------------------------------------------------------

# Ages at which men and women were diagnosed with diabetes: U = 17 of 20 (Shier, Mathematics Learning Support, 2004).
MEN, WOMEN = [19, 22, 16, 29, 24], [20, 11, 17, 12]


def test_mann_whitney_by_hand() -> None:
    """Mean 10, variance 20 * 10/12; of the 126 ways to choose 4 of 9 ranks, 7 have a U of 3 or less."""
    found = statistics.mann_whitney(MEN, WOMEN)
    assert (found.n, found.statistic, found.effect_name) == (9, 17.0, "Cliff's delta")
    assert found.effect_size == pytest.approx(0.7, rel=1e-12)
    assert found.p_value == pytest.approx(2 * 7 / 126, rel=1e-12)
    deviation = math.sqrt(20 * 10 / 12)
    corrected = statistics.mann_whitney(MEN, WOMEN, method="normal")
    assert corrected.p_value == pytest.approx(two_sided(6.5 / deviation), rel=1e-12)
    plain = statistics.mann_whitney(MEN, WOMEN, method="normal", continuity=False)
    assert plain.p_value == pytest.approx(two_sided(7 / deviation), rel=1e-12)
    assert statistics.mann_whitney(MEN, WOMEN, method="exact", continuity=False) == found
    assert statistics.mann_whitney(WOMEN, MEN).statistic == 3.0


def test_mann_whitney_with_ties_and_misses() -> None:
    """Both misses tie with one miss and lie above two hits; the hit lies above two: 2.5 + 2.5 + 2 = 7 of 9.

    Ranks of x: 5, 5, 3; ties of 3 and 2 among 6: variance 9/12 (7 - (24 + 6)/30) = 4.5.
    """
    found = statistics.mann_whitney([INF, INF, 1.0], [INF, 0.0, 0.0])
    assert found.statistic == 7.0
    assert found.effect_size == pytest.approx(5 / 9, rel=1e-12)
    assert found.p_value == pytest.approx(two_sided((2.5 - 0.5) / math.sqrt(4.5)), rel=1e-12)
    with pytest.raises(ValueError, match="exact needs values without ties"):
        statistics.mann_whitney([1, 2], [2, 3], method="exact")


@pytest.mark.parametrize(("n_x", "n_y", "way"), [(8, 30, "exact"), (30, 8, "exact"), (9, 9, "asymptotic")])
def test_exact_where_a_sample_has_at_most_eight(n_x: int, n_y: int, way: str) -> None:
    rng = np.random.default_rng(n_x)
    x, y = rng.normal(0.5, 1, n_x), rng.normal(0, 1, n_y)
    reference = scipy.stats.mannwhitneyu(x, y, method=way)
    other = scipy.stats.mannwhitneyu(x, y, method="asymptotic" if way == "exact" else "exact")
    assert statistics.mann_whitney(x, y).p_value == pytest.approx(reference.pvalue, rel=1e-12)
    assert reference.pvalue != pytest.approx(other.pvalue, rel=1e-6)
    tied = np.append(y, x[0])
    expected = scipy.stats.mannwhitneyu(x, tied, method="asymptotic").pvalue
    assert statistics.mann_whitney(x, tied).p_value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n_x", "n_y", "u"), [(8, 400, 950), (3, 500, 600), (40, 40, 600)])
def test_exact_p_is_the_number_of_orders(n_x: int, n_y: int, u: int) -> None:
    """Ways to have U <= u, counted in whole numbers: the largest value is of x (above all y) or of y."""
    # ways[i][v]: orders of i values of x and j of y with U = v, for j growing from 0 to n_y.
    ways = [[1] + [0] * u for _ in range(n_x + 1)]
    for j in range(1, n_y + 1):
        for i in range(1, n_x + 1):
            below = ways[i - 1]
            ways[i] = [ways[i][v] + (below[v - j] if v >= j else 0) for v in range(u + 1)]
    expected = 2 * sum(ways[n_x]) / math.comb(n_x + n_y, n_x)
    # A sample of ranks with just this U: x as low as it goes, then moved up one place at a time.
    above = [min(n_y, max(0, u - n_y * place)) for place in range(n_x)]
    x = np.array([count + 0.5 for count in above]) + np.linspace(0, 0.25, n_x)[::-1]
    found = statistics.mann_whitney(x, np.arange(1.0, n_y + 1), method="exact")
    assert found.statistic == u
    assert found.p_value == pytest.approx(min(1.0, expected), rel=1e-7)


def test_mann_whitney_without_a_result() -> None:
    for x, y in ([], [1.0]), ([1.0], []), ([], []):
        found = statistics.mann_whitney(x, y)
        assert all(map(math.isnan, (found.statistic, found.p_value, found.effect_size)))
        assert found.n == len(x) + len(y)
        assert math.isnan(statistics.cliffs_delta(x, y))
    for continuity in (True, False):
        equal = statistics.mann_whitney([INF, INF], [INF, INF, INF], continuity=continuity)
        assert (equal.statistic, equal.p_value, equal.effect_size) == (3.0, 1.0, 0.0)


@settings(max_examples=100, deadline=None)
@given(SAMPLES, SAMPLES)
def test_u_and_delta_count_pairs(x: list[float], y: list[float]) -> None:
    found, swapped = statistics.mann_whitney(x, y), statistics.mann_whitney(y, x)
    above, below = (sum(a > b for a in x for b in y), sum(a < b for a in x for b in y))
    cells = len(x) * len(y)
    assert found.statistic == above + (cells - above - below) / 2
    assert found.effect_size == statistics.cliffs_delta(x, y) == (above - below) / cells
    assert found.effect_size == pytest.approx(2 * found.statistic / cells - 1, abs=1e-12)
    assert swapped.statistic == cells - found.statistic
    assert swapped.effect_size == -found.effect_size
    assert swapped.p_value == pytest.approx(found.p_value, rel=1e-12)
    assert 0 <= found.p_value <= 1


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(8)), st.integers(1, 7))
def test_mann_whitney_enumerated(order: list[int], size: int) -> None:
    """Every choice of the sample is as likely under the null."""
    x, y = order[:size], order[size:]
    found = statistics.mann_whitney(x, y)

    def u(chosen: tuple[int, ...]) -> int:
        return sum(a > b for a in chosen for b in range(8) if b not in chosen)

    null = [u(chosen) for chosen in combinations(range(8), size)]
    tail = min(sum(each <= found.statistic for each in null), sum(each >= found.statistic for each in null))
    assert found.p_value == pytest.approx(min(1.0, 2 * tail / len(null)), rel=1e-12)


def test_groups_in_any_order_of_values() -> None:
    values = [0.2, 0.5, 0.5, 0.9]
    assert len({statistics.mann_whitney(order, [0.4, 0.6]) for order in permutations(values)}) == 1
