"""Calibration of one image's stored probabilities: do as many of the pixels as they say show the lesion?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eus_ray.analysis.measures.distances import bounding_box
from eus_ray.analysis.measures.roc import LevelCounts

NUM_BINS = 15
"""Bins of equal width, as Guo et al. (2017) have them for the expected calibration error."""
_TOP_LEVEL = 65535
_LEVELS_IN_BIN = _TOP_LEVEL // NUM_BINS
"""It is a whole number, so that every level lies in its bin exactly."""
_MARGIN = 10
"""The box grows on each side by its side over this: a tenth."""


class Calibration(NamedTuple):
    """How well an image's probabilities say what its pixels are: over the whole image, and in the lesion's box."""

    bins: npt.NDArray[np.float64]
    """`(2, 15, 3)`: of the whole image and of the box; of each bin of p the number of pixels, the sum of their p, and
    how many of them are lesion. The second is all 0 without a box."""
    brier: float
    """Mean of (p - truth)², truth being 1 in the lesion and 0 elsewhere."""
    ece: float
    """Expected calibration error: mean over pixels of |mean truth - mean p| of their bin."""
    brier_box: float
    """NaN without a box."""
    ece_box: float


CALIBRATION = Calibration._fields[1:]
"""The columns that `images.parquet` has of it."""


def calibration(
    levels: npt.NDArray[np.uint16],
    truth: npt.NDArray[np.bool_],
    pred: npt.NDArray[np.bool_],
    counts: LevelCounts | None = None,
) -> Calibration:
    """Compute Brier score, expected calibration error and reliability bins of one image.

    Most pixels of an image are far from any lesion, and easy. So all is computed in a box as well: the smallest one
    that holds truth and prediction, larger on each side by a tenth of its own height and width (rounded up), as far as
    the image goes. There is none if both masks are empty.

    Args:
        levels: Probabilities as they are stored, rint(p · 65535), `(H, W)`. Bin k has p in (k/15, (k+1)/15], the first
            one p = 0 too: scikit-learn's `calibration_curve`.
        truth: The true mask `(H, W)`.
        pred: The predicted mask `(H, W)`.
        counts: `count_levels(levels, truth)`, if it is known: levels are fewer than pixels.
    """
    box = grown_box(truth, pred)
    whole = _Region.of(_pixels(levels, truth) if counts is None else counts)
    inner = _Region.of(_pixels(levels[box], truth[box]))
    return Calibration(np.stack([whole.bins, inner.bins]), whole.brier, whole.ece, inner.brier, inner.ece)


def grown_box(truth: npt.NDArray[np.bool_], pred: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return rows and columns of the box of both masks `(H, W)`, grown by a tenth on each side, within the image.

    It is empty if both masks are.

    >>> mask = np.zeros((40, 40), bool)
    >>> mask[1:12, 20:30] = True
    >>> grown_box(mask, mask)
    (slice(0, 14, None), slice(19, 31, None))
    """
    rows, columns = bounding_box(truth, pred)
    return _grown(rows, truth.shape[0]), _grown(columns, truth.shape[1])


def _grown(side: slice, length: int) -> slice:
    margin = math.ceil((side.stop - side.start) / _MARGIN)
    return slice(max(0, side.start - margin), min(length, side.stop + margin))


class _Region(NamedTuple):
    """Bins `(15, 3)`, Brier score and expected calibration error of some pixels; NaN of none."""

    bins: npt.NDArray[np.float64]
    brier: float
    ece: float

    @classmethod
    def of(cls, counts: LevelCounts) -> _Region:
        """Judge pixels by their levels; whole numbers up to the last step, so that no sum is rounded."""
        levels, positive, negative = counts
        if not levels.size:
            return cls(np.zeros((NUM_BINS, 3)), math.nan, math.nan)
        wide, number = levels.astype(np.int64), positive + negative
        place = (np.maximum(wide, 1) - 1) // _LEVELS_IN_BIN
        num_pixels, sums, lesion = (np.bincount(place, each, NUM_BINS) for each in (number, wide * number, positive))
        squares = int(wide * wide @ number) + _TOP_LEVEL * int((_TOP_LEVEL - 2 * wide) @ positive)
        total = int(number.sum())
        return cls(
            np.stack([num_pixels, sums / _TOP_LEVEL, lesion], axis=-1),
            squares / (_TOP_LEVEL**2 * total),
            float(np.abs(_TOP_LEVEL * lesion - sums).sum()) / (_TOP_LEVEL * total),
        )


def _pixels(levels: npt.NDArray[np.uint16], truth: npt.NDArray[np.bool_]) -> LevelCounts:
    """Return the pixels of a map as if each had a level of its own."""
    lesion = truth.ravel().astype(np.int64)
    return LevelCounts(levels.ravel(), lesion, 1 - lesion)
