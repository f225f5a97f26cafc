"""ROC curves of pixels and their areas: of an image, of a fold, and over folds.

Stored probabilities have 65,536 levels. A curve depends only on how many pixels of the lesion, and how many others,
have each level. So curves and areas are exact, and a pass over the maps keeps counts instead of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NUM_LEVELS = 65536
FPR = np.concatenate([np.arange(40) / 4000, np.arange(10, 100) / 1000, np.arange(10, 101) / 100])
"""False positive rates at which curves are given, `(G,)`: most pixels are no lesion, so curves differ in the corner."""

MOST_PATIENTS = 400
"""A fold with more patients has no interval of its pooled area: each patient takes half a megabyte while the fold is
read, and the pairs of so many take a second."""
_NUM_LEVELS_IN_BLOCK = 4096

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


# ---- one curve ----------------------------------------------------------------------------------


class LevelCounts(NamedTuple):
    """Pixels by level, `(K,)` each.

    These are the levels that occur, ascending, and how many pixels of either class have them.
    """

    levels: npt.NDArray[np.uint16]
    positive: npt.NDArray[np.int64]
    """Pixels of the lesion."""
    negative: npt.NDArray[np.int64]


class Curve(NamedTuple):
    """All corners of a ROC curve from (0, 0) to (1, 1), `(K + 1,)` each.

    A pixel at its threshold counts as lesion.
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats
    """A level; inf at (0, 0)."""


class Roc(NamedTuple):
    """A curve at `FPR`, and its area; all NaN if all pixels are of one class."""

    auc: float
    tpr: Floats
    """`(G,)`: on the straight line between neighbouring corners, on a vertical line its upper end."""
    threshold: Floats
    """`(G,)`: the lowest probability threshold whose false positive rate is at most this; inf if there is none."""


def count_levels(levels: npt.NDArray[np.uint16], truth: npt.NDArray[np.bool_]) -> LevelCounts:
    """Count the pixels of each level.

    Args:
        levels: A map of stored levels.
        truth: Its true mask, of the same shape.

    Raises:
        ValueError: For levels that are not uint16, a truth that is not boolean, and different shapes.
    """
    if levels.dtype != np.uint16 or truth.dtype != np.bool_ or levels.shape != truth.shape:
        raise ValueError(
            "levels must be uint16, truth boolean, of one shape, "
            f"not {levels.dtype} {levels.shape} and {truth.dtype} {truth.shape}"
        )
    everywhere = np.bincount(levels.ravel(), minlength=NUM_LEVELS)
    lesion = np.bincount(levels[truth], minlength=NUM_LEVELS)
    return as_level_counts(lesion, everywhere - lesion)


def as_level_counts(positive: Counts, negative: Counts) -> LevelCounts:
    """Return the counts of levels that occur from counts `(65536,)` of all."""
    used = np.flatnonzero(positive + negative)
    return LevelCounts(used.astype(np.uint16), positive[used], negative[used])


def curve(counts: LevelCounts) -> Curve | None:
    """Return every corner of the curve, one a level that occurs.

    It is scikit-learn's `roc_curve(..., drop_intermediate=False)`; None if all pixels are of one class.
    """
    num_positive, num_negative = int(counts.positive.sum()), int(counts.negative.sum())
    if not num_positive or not num_negative:
        return None
    true, false = (np.concatenate([[0], np.cumsum(part[::-1])]) for part in (counts.positive, counts.negative))
    threshold = np.concatenate([[np.inf], counts.levels[::-1].astype(np.float64)])
    return Curve(false / num_negative, true / num_positive, threshold)


def area(counts: LevelCounts) -> float:
    """Return the area under the curve, `image_metrics.auc` of the pixels.

    NaN if all pixels are of one class.
    """
    positive, negative = counts.positive, counts.negative
    pairs = int(positive.sum()) * int(negative.sum())
    if not pairs:
        return float("nan")
    if pairs >= 2**61:  # more than 64 bits hold: Python's own integers
        positive, negative = positive.astype(object), negative.astype(object)
    twice_below = 2 * np.cumsum(negative) - negative
    return int((positive * twice_below).sum()) / (2 * pairs)


def roc(counts: LevelCounts) -> Roc:
    """Return the curve at `FPR` and its exact area."""
    corners = curve(counts)
    if corners is None:
        return Roc(float("nan"), *np.full((2, len(FPR)), np.nan))
    fpr, tpr, threshold = corners
    last = np.searchsorted(fpr, FPR, side="right") - 1  # the upper end of a vertical line
    following = np.minimum(last + 1, len(fpr) - 1)
    width = fpr[following] - fpr[last]
    share = np.divide(FPR - fpr[last], width, out=np.zeros(len(FPR)), where=width > 0)
    return Roc(area(counts), tpr[last] + share * (tpr[following] - tpr[last]), threshold[last] / (NUM_LEVELS - 1))


# ---- the images of a fold -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FoldRoc:
    """One model's curves on one fold."""

    fold: int
    num_images: int
    num_undefined: int
    """Images with one class only, which have no curve of their own."""
    image_tpr: Floats
    """The mean `(G,)` of the images' curves; NaN if none has one. Its area is the mean of their areas."""
    pooled: Roc
    """The curve of all pixels of all images together."""
    patients: tuple[str, ...]
    """The fold's patients, P of them, sorted."""
    positives: Counts
    """Pixels of each patient's lesions, `(P,)`."""
    negatives: Counts
    wins: Floats | None
    """`(P, P)`: the pairs of a lesion pixel of patient i and another pixel of patient j in which the former has the
    higher level; equal levels count half. None beyond `MOST_PATIENTS`."""


def pair_wins(counts: Sequence[npt.NDArray[np.integer]]) -> Floats:
    """Return `FoldRoc.wins` of P patients.

    Exact as long as no two patients have more than 2 ** 52 pairs of pixels.

    Args:
        counts: Each patient's pixels by level, `(2, 65536)`: of lesions and of the rest.
    """
    wins, below = np.zeros((len(counts), len(counts))), np.zeros((len(counts), 1))
    for start in range(0, NUM_LEVELS, _NUM_LEVELS_IN_BLOCK):
        lesion, others = np.stack([both[:, start : start + _NUM_LEVELS_IN_BLOCK] for both in counts], axis=1).astype(
            np.float64
        )
        up_to = below + np.cumsum(others, axis=1)
        wins += lesion @ (up_to - others / 2).T
        below = up_to[:, -1:]
    return wins


class FoldCounts:
    """Collects one model's images of one fold, one by one.

    It holds counts of each patient, not pixels.
    """

    def __init__(self, fold: int) -> None:
        """Begin a fold without images."""
        self.fold = fold
        self._num_images = self._num_undefined = 0
        self._image_tpr = np.zeros(len(FPR))
        self._total = np.zeros((2, NUM_LEVELS), np.int64)
        self._pixels: dict[str, Counts] = {}
        # Counts (2, 65536) by patient, of lesions and of the rest; none once there are more than MOST_PATIENTS.
        self._patients: dict[str, npt.NDArray[np.uint32]] | None = {}

    def add(self, patient: str, counts: LevelCounts, tpr: Floats) -> None:
        """Add one image of a patient, with its own curve at `FPR`."""
        both = np.stack([counts.positive, counts.negative])
        self._num_images += 1
        if np.isnan(tpr[0]):
            self._num_undefined += 1
        else:
            self._image_tpr += tpr
        self._total[:, counts.levels] += both
        self._pixels[patient] = self._pixels.get(patient, np.zeros(2, np.int64)) + both.sum(axis=1)
        if len(self._pixels) > MOST_PATIENTS:
            self._patients = None
        if self._patients is not None:
            mine = self._patients.setdefault(patient, np.zeros((2, NUM_LEVELS), np.uint32))
            mine[:, counts.levels] += both.astype(np.uint32)

    def finish(self) -> FoldRoc:
        """Return the curves of the images added so far, one at least."""
        patients = tuple(sorted(self._pixels))
        positives, negatives = np.stack([self._pixels[patient] for patient in patients], axis=1)
        defined = self._num_images - self._num_undefined
        return FoldRoc(
            fold=self.fold,
            num_images=self._num_images,
            num_undefined=self._num_undefined,
            image_tpr=self._image_tpr / defined if defined else np.full(len(FPR), np.nan),
            pooled=roc(as_level_counts(*self._total)),
            patients=patients,
            positives=positives,
            negatives=negatives,
            wins=None if self._patients is None else pair_wins([self._patients[patient] for patient in patients]),
        )
