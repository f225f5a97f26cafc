"""Two areas under the ROC curve of the same cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes most of a second

from eus_ray.analysis.measures import image_metrics
from eus_ray.analysis.statistics.test_result import ratio
from eus_ray.analysis.statistics.validation import Floats

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True, eq=False)
class DeLong:
    """Areas of scores a and b with Wald 95 % intervals, not clipped to [0, 1]."""

    auc_a: float
    low_a: float
    high_a: float
    auc_b: float
    low_b: float
    high_b: float
    difference: float
    """auc_a - auc_b."""
    low: float
    """The interval of the difference."""
    high: float
    covariance: Floats
    """Between the two areas, `(2, 2)`."""
    z: float
    p_value: float


def delong(truth: npt.ArrayLike, scores_a: npt.ArrayLike, scores_b: npt.ArrayLike) -> DeLong:
    """Compare two correlated areas under the ROC curve by DeLong's test.

    The areas are those of `image_metrics.auc`. With psi(x, y) = 1, 1/2, 0 for x >, =, < y, V10 is each positive's mean
    psi over the negatives, V01 each negative's over the positives, and the covariance of the areas is
    cov(V10)/m + cov(V01)/n (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; by ranks as in Sun and Xu, IEEE
    Signal Process. Lett. 21, 2014). Cases must be independent: images or patients, not pixels of one image.

    Args:
        truth: Classes `(n,)` of the cases, boolean or 0 and 1.
        scores_a: Scores `(n,)`; infinite ones are allowed.
        scores_b: Scores `(n,)` of the same cases.

    Returns:
        All NaN for one class only; with one case in a class the areas are known and their covariance is NaN. A
        difference of exactly 0 has z = 0 and p = 1, whatever the covariance.

    Raises:
        ValueError: For different lengths, labels other than 0 and 1, and NaN scores.
    """
    labels, first, second = np.asarray(truth), np.asarray(scores_a), np.asarray(scores_b)
    if labels.ndim != 1 or not labels.shape == first.shape == second.shape:
        raise ValueError(
            "truth and scores must have one dimension and one length, "
            f"not {labels.shape}, {first.shape}, {second.shape}"
        )
    positive = labels == 1
    if not (positive | (labels == 0)).all():
        raise ValueError("truth: must hold 0 and 1 alone")
    auc_a, auc_b = (image_metrics.auc(scores, positive) for scores in (first, second))
    difference = auc_a - auc_b
    m, n = int(positive.sum()), int((~positive).sum())
    covariance = np.full((2, 2), math.nan)
    variance = math.nan
    if min(m, n) > 1:
        of_positives, of_negatives = (
            np.stack(both) for both in zip(*(_components(scores, positive) for scores in (first, second)), strict=True)
        )
        covariance = np.cov(of_positives) / m + np.cov(of_negatives) / n
        # S11 + S22 - 2 S12, without the cancellation that can leave it below 0.
        variance = float(np.diff(of_positives, axis=0).var(ddof=1) / m + np.diff(of_negatives, axis=0).var(ddof=1) / n)
    z = ratio(difference, math.sqrt(variance))
    return DeLong(
        *_wald(auc_a, covariance[0, 0]),
        *_wald(auc_b, covariance[1, 1]),
        *_wald(difference, variance),
        covariance,
        z,
        p_value=2 * float(scipy.special.ndtr(-abs(z))),
    )


def _components(scores: npt.NDArray[np.generic], positive: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return V10 `(m,)` and V01 `(n,)`.

    A case's rank among all, minus that among its own class, counts the others below it.
    """
    ranks = scipy.stats.rankdata(scores, method="average")
    below_positives = ranks[positive] - scipy.stats.rankdata(scores[positive], method="average")
    below_negatives = ranks[~positive] - scipy.stats.rankdata(scores[~positive], method="average")
    m, n = len(below_positives), len(below_negatives)
    return below_positives / n, 1 - below_negatives / m


def _wald(value: float, variance: float) -> tuple[float, float, float]:
    half = Z95 * math.sqrt(variance)
    return value, value - half, value + half
