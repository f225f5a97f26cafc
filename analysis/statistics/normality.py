"""Tests of normality."""

from __future__ import annotations

import math
import warnings

import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes most of a second

from eus_ray.analysis.statistics.test_result import Test
from eus_ray.analysis.statistics.validation import sample


def shapiro_wilk(values: npt.ArrayLike) -> Test:
    """Test whether values `(n,)` are normal, by the Shapiro-Wilk test.

    Royston's algorithm AS R94 (Applied Statistics 44, 1995), made for 3 to 5000 values; beyond, p is extrapolated.

    Returns:
        The statistic W in (0, 1], small if values are not normal. NaN for fewer than 3 values, and for values that are
        all equal.

    Raises:
        ValueError: For NaN and infinite values.
    """
    array = sample(values)
    if len(array) < 3 or array.min() == array.max():
        return Test("Shapiro-Wilk", len(array), math.nan, math.nan)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of more than 5000 values
        found = scipy.stats.shapiro(array)
    return Test("Shapiro-Wilk", len(array), float(found.statistic), float(found.pvalue))
