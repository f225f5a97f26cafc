"""Tests of paired values: two models on the same patients, or on the same folds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes most of a second

from eus_ray.analysis.statistics import validation
from eus_ray.analysis.statistics.test_result import Test, ratio
from eus_ray.analysis.statistics.validation import Floats

DECIMALS = 10
"""Differences are equal when so many decimals are: 0.81 - 0.79 and 0.70 - 0.68 tie, whatever their last bits say."""
MAX_PAIRS_FOR_EXACT = 50
LEVEL = 0.05


@dataclass(frozen=True)
class Tost:
    """What two one-sided t-tests find: whether the mean difference lies between two margins."""

    t_low: float
    t_upp: float
    p_low: float
    """Against a mean difference at or below the lower margin."""
    p_upp: float
    """Against a mean difference at or above the upper margin."""
    p_value: float
    """The larger one."""
    equivalent: bool
    """p < 0.05: the 90 % interval lies between the margins."""
    ci_low: float
    """The 90 % interval of the mean difference."""
    ci_high: float
    n: int
    difference: float
    """The mean of x - y."""


def wilcoxon_signed_rank(x: npt.ArrayLike, y: npt.ArrayLike) -> Test:
    """Test whether pairs `(n,)`, `(n,)` differ, by the Wilcoxon signed rank test.

    Differences are rounded to 10 decimals, and pairs without difference are dropped. The null distribution is exact
    for up to 50 pairs without ties and zeros, else normal with variance corrected for ties, without continuity
    correction.

    Returns:
        The statistic min(W+, W-) of x - y; as effect the rank-biserial correlation (W+ - W-)/(W+ + W-), from -1 to 1
        (Kerby, Compr. Psychol. 3, 2014); as `n` the number of pairs that differ. Without any pair all is NaN. If there
        are pairs and none differs, nothing speaks against the null hypothesis: statistic 0, p = 1, effect 0.

    Raises:
        ValueError: If lengths differ, or values are NaN or infinite.
    """
    num_pairs, ranks = _signed_ranks(x, y)
    if not ranks.size:
        none, p_value = (0.0, 1.0) if num_pairs else (math.nan, math.nan)
        return Test("Wilcoxon signed rank", 0, none, p_value, none, "rank-biserial")
    up, down = float(ranks[ranks > 0].sum()), abs(float(ranks[ranks < 0].sum()))
    is_exact = len(ranks) == num_pairs <= MAX_PAIRS_FOR_EXACT and len(np.unique(np.abs(ranks))) == num_pairs
    # By default scipy permutes signs up to 13 pairs if there are ties.
    method = "exact" if is_exact else "asymptotic"
    p_value = float(scipy.stats.wilcoxon(ranks, correction=False, alternative="two-sided", method=method).pvalue)
    return Test("Wilcoxon signed rank", len(ranks), min(up, down), p_value, (up - down) / (up + down), "rank-biserial")


def _signed_ranks(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[int, Floats]:
    """Return the number of pairs, and the ranks `(m,)` of those that differ: negative if x < y."""
    first, second = validation.pairs(x, y)
    differences = np.round(first - second, DECIMALS)
    differ = differences[differences != 0]
    return len(differences), np.copysign(scipy.stats.rankdata(np.abs(differ), method="average"), differ)


def tost_paired(x: npt.ArrayLike, y: npt.ArrayLike, low: float, high: float) -> Tost:
    """Test whether the mean of x - y lies between margins, by two one-sided t-tests.

    t_low = (mean - low)/se against greater, t_upp = (mean - high)/se against less, with n - 1 degrees of freedom
    (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987).

    Args:
        x: `(n,)`.
        y: `(n,)`.
        low: The lower margin.
        high: The upper margin.

    Returns:
        NaN, and not equivalent, for fewer than two pairs. If all differences are equal to 10 decimals the error is 0, t
        is infinite and the interval a point; on a margin t is 0 and p = 1/2.

    Raises:
        ValueError: For margins out of order or not finite, different lengths, NaN and infinite values.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"margins: must be finite and in order, not {low} and {high}")
    first, second = validation.pairs(x, y)
    number = len(first)
    mean, deviation = _mean_and_deviation(first - second)
    if number < 2:
        nan = math.nan
        return Tost(nan, nan, nan, nan, nan, False, nan, nan, number, mean)
    error = deviation / math.sqrt(number)
    t_low, t_upp = ratio(mean - low, error), ratio(mean - high, error)
    null = scipy.stats.t(number - 1)
    p_low, p_upp = float(null.sf(t_low)), float(null.cdf(t_upp))
    p_value = max(p_low, p_upp)
    half = float(null.isf(LEVEL)) * error
    return Tost(t_low, t_upp, p_low, p_upp, p_value, p_value < LEVEL, mean - half, mean + half, number, mean)


def nadeau_bengio(differences: npt.ArrayLike, test_to_train: float, level: float = 0.95) -> Test:
    """Test folds' differences against 0 by the corrected resampled t-test.

    t = mean / sqrt((1/J + n_test/n_train) s^2) with J - 1 degrees of freedom: training sets overlap, so that folds are
    not independent (Nadeau and Bengio, Mach. Learn. 52, 2003).

    Args:
        differences: `(J,)`, one a fold: J = 5 for 5 folds, 5 r for r repeats.
        test_to_train: n_test/n_train, 1/4 for 5 folds; 0 is the ordinary t-test.
        level: That of the interval.

    Returns:
        As effect the mean difference; `low`, `high`: its interval from the same error. All but the mean are NaN for
        fewer than two folds. If all differences are equal to 10 decimals the error is 0: t is infinite, or 0 with p = 1
        if they are 0.

    Raises:
        ValueError: For a negative or infinite ratio, a level outside (0, 1), NaN and infinite values.
    """
    if not 0 <= test_to_train < math.inf:
        raise ValueError(f"test_to_train: must be finite and not negative, not {test_to_train}")
    validation.inside(level, "level", 0, 1)
    values = validation.sample(differences, "differences")
    number = len(values)
    mean, deviation = _mean_and_deviation(values)
    if number < 2:
        return Test("Nadeau-Bengio", number, math.nan, math.nan, mean, "mean difference")
    error = math.sqrt(1 / number + test_to_train) * deviation
    t = ratio(mean, error)
    null = scipy.stats.t(number - 1)
    half = float(null.isf((1 - level) / 2)) * error
    return Test(
        "Nadeau-Bengio", number, t, 2 * float(null.sf(abs(t))), mean, "mean difference", mean - half, mean + half
    )


def _mean_and_deviation(values: Floats) -> tuple[float, float]:
    """Return the mean and the deviation (ddof 1); NaN for none, or for only one.

    Values that are equal to 10 decimals become those decimals, with a deviation of exactly 0: float noise alone must
    not be divided by itself.
    """
    if values.size < 2:
        return float(values[0]) if values.size else math.nan, math.nan
    rounded = np.round(values, DECIMALS) + 0.0  # no negative zero
    if rounded.min() == rounded.max():
        return float(rounded[0]), 0.0
    return float(values.mean()), float(values.std(ddof=1))
