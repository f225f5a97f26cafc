"""Risk and coverage: what is left of the errors if only the images on which an ensemble agrees are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eus_ray.analysis.statistics.validation import Floats, sample


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The risk of the images that are kept, from the one with the highest agreement to all."""

    coverage: Floats
    """The share of the images that are kept, `(n,)`: 1/n, 2/n, … 1."""
    risk: Floats
    """The mean of 1 - DSC of those kept, `(n,)`."""
    aurc: float
    """The area under the curve: the mean of `risk`."""
    aurc_random: float
    """What an order by chance has on average: the mean of 1 - DSC of all images."""
    aurc_perfect: float
    """That of the order by DSC, below which no order comes."""


def risk_coverage(agreement: npt.ArrayLike, dsc: npt.ArrayLike) -> RiskCoverage:
    """Sort images by agreement, and average the errors of the first 1, 2, … n of them.

    Images of equal agreement have no order: the risk is its mean over all their orders, and the order of the rows
    changes nothing.

    Args:
        agreement: Of the ensemble on each image `(n,)`; the highest is kept first.
        dsc: Of its prediction `(n,)`.

    Returns:
        Areas are NaN without images.

    Raises:
        ValueError: For different lengths, another rank, NaN and infinite values.
    """
    score, values = sample(agreement, "agreement"), sample(dsc, "dsc")
    if score.shape != values.shape:
        raise ValueError(f"agreement and dsc must be of the same images, not of {len(score)} and {len(values)}")
    number = len(values)
    if not number:
        return RiskCoverage(values, values, *[float("nan")] * 3)
    loss = 1 - values
    _, tied = np.unique(-score, return_inverse=True)  # 0 for the highest
    of_ties = np.bincount(tied, weights=loss) / np.bincount(tied)
    risk = _kept(of_ties[np.sort(tied)])
    coverage = np.arange(1, number + 1) / number
    return RiskCoverage(coverage, risk, float(risk.mean()), float(loss.mean()), float(_kept(np.sort(loss)).mean()))


def _kept(losses: Floats) -> Floats:
    """Return the mean of the first 1, 2, … n losses `(n,)`."""
    means: Floats = np.cumsum(losses) / np.arange(1, len(losses) + 1)
    return means
