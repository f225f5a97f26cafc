"""Permutation test of a mean difference by flipping signs, and the interval of shifts that it does not reject."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from eus_ray.analysis.statistics import validation
from eus_ray.analysis.statistics.test_result import Test
from eus_ray.analysis.statistics.validation import Floats

MOST_FOR_ALL_FLIPS = 16
DRAWS = 10_000
SEED = 0
_TOLERANCE = 1e-10
"""Of the largest difference, if that is above 1: an end of an interval so near to 0 is 0. A flip that gives the mean
itself counts, whatever its last bits say."""
_NUM_SIGNS_AT_ONCE = 2**22


def sign_flip_test(differences: npt.ArrayLike, weights: npt.ArrayLike, level: float = 0.95) -> Test:
    """Test whether a weighted mean of patients' differences is 0, by flipping their signs.

    If a patient favours neither of two models, the difference could as well have the other sign. p is the share of
    flips whose mean is at least as far from 0 as the mean: over all 2^n flips of up to 16 patients, else over 10,000
    drawn ones, (1 + #)/(1 + 10,000) (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005). The
    interval is the set of shifts of the differences that the test does not reject. So it leaves 0 out exactly if
    p < 1 - level.

    Args:
        differences: `(n,)`, one a patient.
        weights: `(n,)`, positive; divided by their sum. For a mean of fold means, a patient's is one over the number of
            patients in the fold.
        level: That of the interval.

    Returns:
        As statistic and effect the mean. A limit is infinite if no shift is rejected: at level 0.95 with fewer than
        six patients. Without patients all but the number are NaN.

    Raises:
        ValueError: For NaN or infinite values, weights of another length or not positive, a level outside (0, 1).
    """
    return sign_flip_tests(validation.sample(differences, "differences")[:, None], weights, level)[0]


def sign_flip_tests(differences: Floats, weights: npt.ArrayLike, level: float = 0.95) -> list[Test]:
    """Do as `sign_flip_test` for each column of differences `(n, M)`, with the same flips."""
    validation.inside(level, "level", 0, 1)
    values = validation.sample(differences, "differences", rank=2)
    shares = validation.sample(weights, "weights")
    if len(shares) != len(values) or (shares <= 0).any():
        raise ValueError("weights: must be positive, and as many as differences")
    if not len(shares):
        return [Test("sign flips", 0, math.nan, math.nan, math.nan, "mean difference")] * values.shape[1]
    shares = shares / shares.sum()
    means = shares @ values
    weighted = np.column_stack([shares[:, None] * values, shares])
    *flipped, factor = np.concatenate([signs @ weighted for signs in _flips(len(shares))]).T
    return [
        _result(len(shares), mean, *_bearable_shifts(mean, sums, factor, _TOLERANCE * max(1.0, largest)), level)
        for mean, sums, largest in zip(means, flipped, np.abs(values).max(axis=0), strict=True)
    ]


def _result(number: int, mean: float, low: Floats, high: Floats, level: float) -> Test:
    """Return the test of a mean from the shifts that each flip bears, `(B,)` and `(B,)`."""
    identity = 0 if number <= MOST_FOR_ALL_FLIPS else 1  # the signs as they are, among all flips already
    num_flips = len(low) + identity
    p_value = (int(((low <= 0) & (high >= 0)).sum()) + identity) / num_flips
    # a shift is not rejected if so many flips bear it, the identity included, which bears all
    needed = max(math.ceil((1 - level) * num_flips - _TOLERANCE) - identity, 1)
    limits = np.partition(low, needed - 1)[needed - 1], -np.partition(-high, needed - 1)[needed - 1]
    return Test("sign flips", number, float(mean), p_value, float(mean), "mean difference", *map(float, limits))


def _bearable_shifts(mean: float, flipped: Floats, factor: Floats, tolerance: float) -> tuple[Floats, Floats]:
    """Return for each flip the shifts `(B,)`, `(B,)` between which its mean is as far from 0 as the mean.

    After a shift by d the mean is mean - d, and a flip's is flipped - factor·d. With all signs alike both are equally
    far at any d.
    """
    all_alike = np.abs(factor) > 1 - 1e-12
    ends = np.stack(
        [
            (mean - flipped) / np.where(all_alike, 1, 1 - factor),
            (mean + flipped) / np.where(all_alike, 1, 1 + factor),
        ]
    )
    ends[np.abs(ends) < tolerance] = 0
    return np.where(all_alike, -np.inf, ends.min(axis=0)), np.where(all_alike, np.inf, ends.max(axis=0))


def _flips(number: int) -> Iterator[Floats]:
    """Yield signs `(B, number)`, -1 or 1: all flips of up to `MOST_FOR_ALL_FLIPS` patients, else drawn ones.

    The drawn ones depend on the number alone, so that a pair's p depends on no other model.
    """
    if number <= MOST_FOR_ALL_FLIPS:
        yield _signs(np.arange(2**number)[:, None] >> np.arange(number) & 1)
        return
    rng, at_once = np.random.default_rng(SEED), max(1, _NUM_SIGNS_AT_ONCE // number)
    for start in range(0, DRAWS, at_once):
        some = min(at_once, DRAWS - start)
        bits = np.frombuffer(rng.bytes(some * -(-number // 8)), np.uint8).reshape(some, -1)
        yield _signs(np.unpackbits(bits, axis=1, count=number))


def _signs(bits: npt.NDArray[np.integer]) -> Floats:
    return 1 - 2 * bits.astype(np.float64)
