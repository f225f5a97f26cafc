"""Distances between the contours of two masks (equations 4 to 6 of the paper), exact in float64.

The contour of a mask is the set of its own pixels that have an edge-neighbour outside the mask, where
everything beyond the image counts as outside. A point is a pixel centre. All components and the rims
of holes take part.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

OneEmpty = Literal["inf", "nan", "diagonal"]
BothEmpty = Literal["zero", "nan"]

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
_ALL_PAIRS_BELOW = 2**18
"""Up to here the table of all pairs of points stays in the cache and is the fastest way."""
_TRANSFORM_BELOW = 2**22
"""Where the crop's squared diagonal is below this, a float32 distance still rounds to its integer square."""


class Directed(NamedTuple):
    """Each contour point's distance to the other contour, ascending, in the unit of the spacing.

    A list is empty where its own mask is, and all infinite where only the other mask is.
    """

    truth_to_pred: npt.NDArray[np.float64]
    """`(Na,)`"""
    pred_to_truth: npt.NDArray[np.float64]
    """`(Nb,)`"""


class Distances(NamedTuple):
    """What the two directed lists come to for one image, in the unit of the spacing."""

    hd: float
    """Hausdorff distance (equation 5): the largest distance of both lists."""
    hd95: float
    """The larger of the two lists' 95th percentiles (linear interpolation)."""
    hd95_pooled: float
    """The 95th percentile of both lists together."""
    avd: float
    """Average distance (equation 4): the larger directed mean."""
    mad: float
    """Mean absolute distance (equation 6, its comma read as a plus): half the sum of the directed means."""
    assd: float
    """The mean of both lists together."""
    avd_truth_to_pred: float
    avd_pred_to_truth: float


def check_spacing(spacing: npt.ArrayLike) -> tuple[float, float]:
    """`(row, column)` spacing as floats. Raises `ValueError` unless it is two positive finite numbers."""
    values = np.asarray(spacing, dtype=np.float64)
    if values.shape != (2,) or not np.isfinite(values).all() or not (values > 0).all():
        raise ValueError(f"spacing must be two positive finite numbers (row, column), not {spacing!r}")
    return float(values[0]), float(values[1])


def contour(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The contour `(H, W)` of a mask `(H, W)`; empty only for an empty mask.

    >>> contour(np.ones((3, 4), bool)).astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    inner = cv2.erode(pixels, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return (pixels - inner).view(np.bool_)


def bounding_box(*masks: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds all masks `(H, W)`; an empty box where all are empty."""
    union = np.logical_or.reduce(masks) if len(masks) > 1 else masks[0]
    if not union.size:  # such as a crop that had nothing in it
        return slice(0, 0), slice(0, 0)
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(union).view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def directed_distances(
    truth: npt.NDArray[np.bool_], pred: npt.NDArray[np.bool_], spacing: tuple[float, float] = (1.0, 1.0)
) -> Directed:
    """The two directed lists of distances between the contours of boolean masks `(H, W)`."""
    box = bounding_box(truth, pred)
    # The contour of the crop is the crop of the contour: beyond the box there is no mask, as beyond the frame.
    if box[0].start == box[0].stop:
        return Directed(np.empty(0), np.empty(0))
    from_truth, from_pred = contour(truth[box]), contour(pred[box])
    if not (from_truth.any() and from_pred.any()):
        lists = (np.full(np.count_nonzero(edge), np.inf) for edge in (from_truth, from_pred))
        return Directed(*lists)
    # Three ways to the same numbers: few points, dense contours, large images with long contours.
    here, there = _points(from_truth), _points(from_pred)
    equal, beyond = spacing[0] == spacing[1], from_truth.shape[0] ** 2 + from_truth.shape[1] ** 2
    if len(here) * len(there) <= _ALL_PAIRS_BELOW:
        nearest = _all_pairs(here, there, spacing, beyond)
    elif equal and beyond < _TRANSFORM_BELOW:
        nearest = (_by_transform(from_truth, from_pred, spacing[0]), _by_transform(from_pred, from_truth, spacing[0]))
    else:
        nearest = (_by_tree(here, there, spacing), _by_tree(there, here, spacing))
    for values in nearest:
        values.sort()
    return Directed(*nearest)


def _points(edge: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Row and column `(K, 2)` of the pixels of a contour that has some."""
    return np.asarray(cv2.findNonZero(edge.view(np.uint8)), np.int32).reshape(-1, 2)[:, ::-1]


def _all_pairs(
    here: npt.NDArray[np.int32], there: npt.NDArray[np.int32], spacing: tuple[float, float], beyond: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances of both lists. `beyond`: what no squared distance in pixels reaches."""
    equal = spacing[0] == spacing[1]
    # Squares in pixels are exact in the narrowest integers that hold them: differences wrap round, their squares not.
    dtype = np.float64 if not equal or beyond > 2**31 else np.int32 if beyond > 2**16 else np.uint16
    rows, columns = (np.subtract.outer(here[:, axis].astype(dtype), there[:, axis].astype(dtype)) for axis in (0, 1))
    rows *= rows
    columns *= columns
    if not equal:
        rows *= spacing[0] ** 2
        columns *= spacing[1] ** 2
    rows += columns
    scale = spacing[0] if equal else 1.0
    return np.sqrt(rows.min(axis=1), dtype=np.float64) * scale, np.sqrt(rows.min(axis=0), dtype=np.float64) * scale


def _by_transform(
    points: npt.NDArray[np.bool_], targets: npt.NDArray[np.bool_], spacing: float
) -> npt.NDArray[np.float64]:
    """Distances from `points` to the nearest of `targets`; their squares in pixels are integers."""
    away = (~targets).view(np.uint8)
    near = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[points].astype(np.float64)
    return np.sqrt(np.rint(near * near)) * spacing


def _by_tree(
    here: npt.NDArray[np.int32], there: npt.NDArray[np.int32], spacing: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """The tree only names the neighbour: steps are counted in whole pixels, so that no rounding stays in."""
    _, nearest = cKDTree(there * spacing).query(here * spacing)
    steps = (here - there[nearest]) * spacing
    return np.sqrt(np.square(steps).sum(axis=1))


def diagonal(shape: tuple[int, int], spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """hypot(H row, W column): above any distance that two pixels of the image can have."""
    return math.hypot(shape[0] * spacing[0], shape[1] * spacing[1])


def summarise(
    lists: Directed, diagonal: float, one_empty: OneEmpty = "inf", both_empty: BothEmpty = "zero"
) -> Distances:
    """All distances of one image from its directed lists.

    Both masks empty: 0 (`both_empty="nan"`: NaN). Exactly one empty: infinite (`one_empty="nan"`: NaN;
    `"diagonal"`: the image's `diagonal`, a finite penalty above any attainable distance).
    """
    if not all(values.size for values in lists):
        if any(values.size for values in lists):
            value = {"inf": math.inf, "nan": math.nan, "diagonal": diagonal}[one_empty]
        else:
            value = {"zero": 0.0, "nan": math.nan}[both_empty]
        return Distances(*[value] * len(Distances._fields))
    largest = [float(values[-1]) for values in lists]
    # A mean of equal numbers can come out one rounding step above them.
    means = [min(float(values.mean()), top) for values, top in zip(lists, largest, strict=True)]
    pooled = np.concatenate(lists)
    pooled.sort()
    return Distances(
        hd=max(largest),
        hd95=max(_percentile_95(values) for values in lists),
        hd95_pooled=_percentile_95(pooled),
        avd=max(means),
        mad=(means[0] + means[1]) / 2,
        assd=min(max(float(pooled.mean()), min(means)), max(means)),
        avd_truth_to_pred=means[0],
        avd_pred_to_truth=means[1],
    )


def distances(
    truth: npt.NDArray[np.bool_],
    pred: npt.NDArray[np.bool_],
    spacing: tuple[float, float] = (1.0, 1.0),
    *,
    one_empty: OneEmpty = "inf",
    both_empty: BothEmpty = "zero",
) -> Distances:
    """All distances of one pair of boolean masks `(H, W)`; where a mask is empty, see `summarise`.

    >>> left, right = np.zeros((2, 1, 8), bool)
    >>> left[0, 1] = right[0, 4] = right[0, 6] = True
    >>> distances(left, right)[:1], distances(left, right, (1.0, 0.5)).avd
    ((5.0,), 2.0)
    """
    return summarise(directed_distances(truth, pred, spacing), diagonal(truth.shape, spacing), one_empty, both_empty)


def _percentile_95(ascending: npt.NDArray[np.float64]) -> float:
    """NumPy's default percentile, without its overhead of several distance transforms."""
    position = 0.95 * (len(ascending) - 1)
    below = int(position)
    low, high = float(ascending[below]), float(ascending[min(below + 1, len(ascending) - 1)])
    return min(low + (position - below) * (high - low), high)
