"""Rank tests between independent groups. Infinite values are allowed, and all of one sign tie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes most of a second

from eus_ray.analysis.statistics import validation
from eus_ray.analysis.statistics.multiple import holm
from eus_ray.analysis.statistics.test_result import Test
from eus_ray.analysis.statistics.validation import Floats

MAX_SIZE_FOR_EXACT = 8
"""Mann-Whitney is exact up to so many values in one sample: beyond, the normal distribution describes it well."""


@dataclass(frozen=True)
class Pair:
    """Two of several groups, by their places in the given order."""

    i: int
    j: int
    z: float
    """Positive if group i has the higher ranks."""
    p_value: float
    p_adjusted: float


def kruskal_wallis(groups: Iterable[npt.ArrayLike]) -> Test:
    """Test whether groups `(n_i,)` differ, by the Kruskal-Wallis test.

    H is corrected for ties; p is from chi-square with k - 1 degrees of freedom.

    Returns:
        As effect epsilon squared, H / (N - 1), from 0 (equal mean ranks) to 1 (Tomczak and Tomczak, Trends Sport Sci.
        21, 2014). NaN for fewer than two groups, for a group without values, and for values that are all equal.

    Raises:
        ValueError: For NaN.
    """
    ranks = _pooled_ranks(validation.groups(groups))
    number = sum(map(len, ranks))
    if len(ranks) < 2 or not all(map(len, ranks)) or _all_tie(ranks):
        return Test("Kruskal-Wallis", number, math.nan, math.nan, math.nan, "epsilon squared")
    found = scipy.stats.kruskal(*ranks)
    h = max(float(found.statistic), 0.0)  # equal mean ranks give -1e-15 as well as 0
    return Test("Kruskal-Wallis", number, h, float(found.pvalue), h / (number - 1), "epsilon squared")


def dunn(groups: Iterable[npt.ArrayLike]) -> tuple[Pair, ...]:
    """Test all pairs of groups `(n_i,)` after Kruskal-Wallis, by Dunn's test.

    z = (mean rank i - mean rank j) / sqrt(s2 (1/n_i + 1/n_j)) with ranks over all groups together and
    s2 = N (N + 1)/12 - sum(t^3 - t)/(12 (N - 1)) for ties of t values (Technometrics 6, 1964).

    Returns:
        Pairs (0, 1), (0, 2), ...; `p_adjusted` by Holm over all. NaN for a pair with a group without values, and for
        all pairs if all values are equal.

    Raises:
        ValueError: For NaN.
    """
    ranks = _pooled_ranks(validation.groups(groups))
    # The s2 above is the variance of the ranks themselves.
    variance = 0.0 if _all_tie(ranks) else float(np.concatenate(ranks).var(ddof=1))
    places = list(combinations(range(len(ranks)), 2))
    z = np.array([_dunn_z(ranks[i], ranks[j], variance) for i, j in places])
    p_values = 2 * scipy.special.ndtr(-np.abs(z))
    return tuple(
        Pair(i, j, *map(float, found)) for (i, j), *found in zip(places, z, p_values, holm(p_values), strict=True)
    )


def mann_whitney(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    method: Literal["auto", "exact", "normal"] = "auto",
    continuity: bool = True,
) -> Test:
    """Test whether two samples differ, by the Mann-Whitney U test.

    Args:
        x: `(n_x,)`.
        y: `(n_y,)`.
        method: `exact` is the null distribution of U without ties; `normal` corrects for ties; `auto` takes the exact
            one if nothing ties and a sample has at most 8 values.
        continuity: Whether the normal approximation moves U by 1/2 towards its mean.

    Returns:
        The statistic U_x = #(x > y) + #(x = y)/2; as effect Cliff's delta. NaN for a sample without values; p = 1 for
        values that are all equal.

    Raises:
        ValueError: For NaN, and for `exact` if values tie.
    """
    if method not in ("auto", "exact", "normal"):
        raise ValueError(f"method: must be auto, exact or normal, not {method!r}")
    ranks = _pooled_ranks(_two_samples(x, y))
    sizes = [len(group) for group in ranks]
    if not all(sizes):
        return Test("Mann-Whitney", sum(sizes), math.nan, math.nan, math.nan, "Cliff's delta")
    ties = len(np.unique(np.concatenate(ranks))) < sum(sizes)
    if ties and method == "exact":
        raise ValueError("method: exact needs values without ties")
    exact = method == "exact" or (method == "auto" and not ties and min(sizes) <= MAX_SIZE_FOR_EXACT)
    p_value = 1.0
    if not _all_tie(ranks):
        found = scipy.stats.mannwhitneyu(
            *ranks, use_continuity=continuity, alternative="two-sided", method="exact" if exact else "asymptotic"
        )
        p_value = float(found.pvalue)
    return Test("Mann-Whitney", sum(sizes), _u(ranks), p_value, _delta(ranks), "Cliff's delta")


def cliffs_delta(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return Cliff's delta of two samples, from -1 to 1.

    It is (#(x > y) - #(x < y)) / (n_x n_y) (Psychol. Bull. 114, 1993); NaN for a sample without values. Raises
    `ValueError` for NaN.

    >>> cliffs_delta([1, 2, 3], [0, 2])
    0.5
    """
    ranks = _pooled_ranks(_two_samples(x, y))
    return _delta(ranks) if all(map(len, ranks)) else math.nan


def _two_samples(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    return validation.sample(x, "x", infinite=True), validation.sample(y, "y", infinite=True)


def _pooled_ranks(samples: tuple[Floats, ...]) -> list[Floats]:
    """Return each group's ranks among all values together.

    Tests of ranks need no more, and ranks are always finite.
    """
    if not samples:
        return []
    ranks = scipy.stats.rankdata(np.concatenate(samples), method="average")
    return np.split(ranks, np.cumsum([len(group) for group in samples])[:-1])


def _all_tie(ranks: list[Floats]) -> bool:
    """Return whether nothing differs; also true of no values."""
    return len(np.unique(np.concatenate([np.empty(0), *ranks]))) < 2


def _dunn_z(first: Floats, second: Floats, variance: float) -> float:
    if not variance or not first.size or not second.size:
        return math.nan
    return float(first.mean() - second.mean()) / math.sqrt(variance * (1 / first.size + 1 / second.size))


def _u(ranks: list[Floats]) -> float:
    """Return U of the first of two samples; exact, a multiple of 1/2."""
    size = len(ranks[0])
    return float(ranks[0].sum()) - size * (size + 1) / 2


def _delta(ranks: list[Floats]) -> float:
    cells = len(ranks[0]) * len(ranks[1])
    return (2 * _u(ranks) - cells) / cells
