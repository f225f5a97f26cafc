"""Several models on the same cases: all together, and each pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes most of a second

from eus_ray.analysis.statistics import validation
from eus_ray.analysis.statistics.test_result import ratio
from eus_ray.analysis.statistics.validation import Floats


@dataclass(frozen=True, eq=False)
class Friedman:
    """Results of Friedman's test of k models on n cases; NaN if there are none."""

    chi2: float
    """Corrected for ties; k - 1 degrees of freedom."""
    p_value: float
    mean_ranks: Floats
    """`(k,)`; rank 1 is the smallest value."""
    f: float
    """Iman and Davenport's F with k - 1 and (k - 1)(n - 1) degrees of freedom."""
    f_p_value: float
    kendall_w: float
    """Agreement of the cases on the order of the models, from 0 to 1."""
    n: int
    k: int


@dataclass(frozen=True, eq=False)
class Nemenyi:
    """Results of Nemenyi's test of all pairs of k models."""

    mean_ranks: Floats
    """`(k,)`; rank 1 is the smallest value."""
    q: Floats
    """`(k, k)`: (R_i - R_j) / sqrt(k (k + 1)/(6 n)), positive if model i has the larger values."""
    p_values: Floats
    """`(k, k)`, symmetric, 1 on the diagonal; they are of the whole family, and need no Holm."""
    critical_difference: float
    """Mean ranks further apart than this differ."""


def friedman(values: npt.ArrayLike) -> Friedman:
    """Test whether models differ, by Friedman's test.

    chi2 with ties as in Conover (Practical Nonparametric Statistics, section 5.8);
    F = (n - 1) chi2 / (n (k - 1) - chi2) (Iman and Davenport, Commun. Stat. A 9, 1980), infinite if all cases agree on
    one order; W = chi2 / (n (k - 1)). Two models are enough.

    Args:
        values: `(n, k)`, one row a case and one column a model.

    Returns:
        NaN for no cases, for one model, and if every case has all values equal; F also for a single case.

    Raises:
        ValueError: For another rank, NaN and infinite values.
    """
    array = validation.table(values)
    n, k = array.shape
    ranks = scipy.stats.rankdata(array, method="average", axis=1)
    mean_ranks = _mean_ranks(ranks)
    # Sums of squares of multiples of 1/2 are exact, so that perfect agreement is found as such.
    between = float(((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum())
    within = float(((ranks - (k + 1) / 2) ** 2).sum())
    nan = math.nan
    if not within:
        return Friedman(nan, nan, mean_ranks, nan, nan, nan, n, k)
    chi2 = (k - 1) * between / within
    f = f_p_value = nan
    if n > 1:
        f = ratio((n - 1) * between, n * within - between)
        f_p_value = float(scipy.stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    return Friedman(
        chi2, float(scipy.stats.chi2.sf(chi2, k - 1)), mean_ranks, f, f_p_value, between / (n * within), n, k
    )


def nemenyi(values: npt.ArrayLike, alpha: float = 0.05) -> Nemenyi:
    """Test all pairs of models by Nemenyi's test.

    It is that of Demšar (J. Mach. Learn. Res. 7, 2006). p is that of |q| sqrt(2) in the studentized range of k groups
    with infinite degrees of freedom, without correction for ties; the critical difference is q_alpha / sqrt(2) * sqrt(k
    (k + 1)/(6 n)).

    Args:
        values: `(n, k)`, one row a case and one column a model.
        alpha: The level of the critical difference.

    Returns:
        NaN for no cases and for one model.

    Raises:
        ValueError: As `friedman`, and for an alpha outside (0, 1).
    """
    validation.inside(alpha, "alpha", 0, 1)
    array = validation.table(values)
    n, k = array.shape
    mean_ranks = _mean_ranks(scipy.stats.rankdata(array, method="average", axis=1))
    q, p_values = np.full((2, k, k), math.nan)
    if not n or k < 2:
        return Nemenyi(mean_ranks, q, p_values, math.nan)
    unit = math.sqrt(k * (k + 1) / (6 * n))
    q = (mean_ranks[:, None] - mean_ranks) / unit
    np.fill_diagonal(p_values, 1.0)
    upper = np.triu_indices(k, 1)  # the range is integrated anew for each
    p_values[upper] = scipy.stats.studentized_range.sf(np.abs(q[upper]) * math.sqrt(2), k, math.inf)
    p_values.T[upper] = p_values[upper]
    critical = float(scipy.stats.studentized_range.isf(alpha, k, math.inf))
    return Nemenyi(mean_ranks, q, p_values, critical / math.sqrt(2) * unit)


def _mean_ranks(ranks: Floats) -> Floats:
    """Return mean ranks `(k,)` of ranks `(n, k)`; NaN for no cases."""
    return ranks.mean(axis=0) if len(ranks) else np.full(ranks.shape[1], math.nan)
