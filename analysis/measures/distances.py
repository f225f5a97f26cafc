"""Exact distances between contours of two masks (equations 4 to 6 of the paper).

The contour of a mask is the set of its own pixels that have an edge-neighbour outside the mask; everything beyond the
image counts as outside. A point is a pixel centre. All components and the rims of holes take part. Arithmetic is
float64.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

OneEmpty = Literal["inf", "nan", "diagonal"]
BothEmpty = Literal["zero", "nan"]
TOLERANCE = 2.0
"""How far contours may be apart and agree, unless a study says otherwise."""

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
_MIN_SQUARED_DIAGONAL_FOR_FLOAT64 = 2**22
"""Below, a float32 distance still rounds to its whole square, and four times any square is a whole float32."""
_NUM_PAIRS_IN_PRODUCT = 2**16
"""Such a matrix product stays in the cache, and BLAS starts no threads for it."""
_ROUNDING = 1e-9
"""A distance may come out some units in the last place beyond a tolerance that it equals, such as 3 · 0.1 mm."""
_COST_NS = {"products": 0.65, "differences": 3.0, "transform": 31.0, "tree": 900.0}
"""Measured, roughly: for a pair of points, a pair of points, a pixel of the crop, a point."""


class Directed(NamedTuple):
    """Distances of each contour's points to the other contour, in the spacing's unit.

    Both are ascending. A list is empty if its own mask is, and all infinite if only the other mask is.
    """

    truth_to_pred: npt.NDArray[np.float64]
    """`(Na,)`"""
    pred_to_truth: npt.NDArray[np.float64]
    """`(Nb,)`"""


class Distances(NamedTuple):
    """All distances of one image, in the unit of the spacing."""

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
    """Return a `(row, column)` spacing as floats.

    Raises:
        ValueError: If it is not two positive finite numbers.
    """
    values = np.asarray(spacing, dtype=np.float64)
    if values.shape != (2,) or not np.isfinite(values).all() or not (values > 0).all():
        raise ValueError(f"spacing must be two positive finite numbers (row, column), not {spacing!r}")
    return float(values[0]), float(values[1])


def contour(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the contour `(H, W)` of a mask `(H, W)`; empty only for an empty mask.

    >>> contour(np.ones((3, 4), bool)).astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    pixels = mask.view(np.uint8)
    inner = cv2.erode(pixels, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return (pixels - inner).view(np.bool_)


def bounding_box(*masks: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box that holds all masks `(H, W)`.

    The box is empty if all masks are.
    """
    union = reduce(np.logical_or, masks)
    if not union.size:  # such as a crop that had nothing in it
        return slice(0, 0), slice(0, 0)
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(union).view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def directed_distances(
    truth: npt.NDArray[np.bool_], pred: npt.NDArray[np.bool_], spacing: tuple[float, float] = (1.0, 1.0)
) -> Directed:
    """Return both directed lists of distances of boolean masks `(H, W)`."""
    box = bounding_box(truth, pred)
    # The contour of the crop is the crop of the contour: beyond the box there is no mask, as beyond the frame.
    return contour_distances(truth[box], pred[box], spacing)


def contour_distances(
    truth: npt.NDArray[np.bool_], pred: npt.NDArray[np.bool_], spacing: tuple[float, float]
) -> Directed:
    """Do as `directed_distances` without a crop: for masks that fill their frame."""
    if not truth.size:
        return Directed(np.empty(0), np.empty(0))
    edges = contour(truth), contour(pred)
    here, there = (_points(edge) for edge in edges)
    if not (here.size and there.size):
        return Directed(np.full(here.shape[1], np.inf), np.full(there.shape[1], np.inf))
    match _cheapest(here.shape[1], there.shape[1], truth.shape, spacing):
        case "products":
            nearest = _by_products(here, there, spacing[0], _whole(truth.shape))
        case "differences":
            nearest = _by_differences(here, there, spacing)
        case "transform":
            nearest = _by_transform(*edges, spacing[0]), _by_transform(*edges[::-1], spacing[0])
        case _:
            nearest = _by_tree(here, there, spacing), _by_tree(there, here, spacing)
    return Directed(*map(np.sort, nearest))


def _cheapest(here: int, there: int, shape: tuple[int, ...], spacing: tuple[float, float]) -> str:
    """Name the fastest of the ways to the same numbers for so many contour points."""
    cost = {"tree": _COST_NS["tree"] * (here + there)}
    if spacing[0] != spacing[1]:
        cost["differences"] = _COST_NS["differences"] * here * there
    elif _whole(shape) is np.float32:
        cost["products"] = _COST_NS["products"] * here * there
        cost["transform"] = _COST_NS["transform"] * shape[0] * shape[1]
    else:
        cost["products"] = 2 * _COST_NS["products"] * here * there
    return min(cost, key=cost.__getitem__)


def _whole(shape: tuple[int, ...]) -> type[np.floating]:
    """Return the narrowest type that is exact for squared distances.

    It holds four times the squared diagonal, and every whole number below it.
    """
    return np.float32 if shape[0] ** 2 + shape[1] ** 2 < _MIN_SQUARED_DIAGONAL_FOR_FLOAT64 else np.float64


def _points(edge: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return rows and columns `(2, K)` of the pixels of a contour."""
    return np.array(np.divmod(np.flatnonzero(edge), edge.shape[1]))


def _by_products(
    here: npt.NDArray[np.int64], there: npt.NDArray[np.int64], spacing: float, dtype: type[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compare all pairs by one matrix product: |a - b|² = |a|² + |b|² - 2ab.

    No number, and no sum on the way, is beyond four times the crop's squared diagonal, so that `dtype` rounds none.
    """
    ours, theirs = np.ones((4, here.shape[1]), dtype), np.ones((4, there.shape[1]), dtype)
    ours[:2], theirs[:2] = here, there
    np.einsum("ij,ij->j", ours[:2], ours[:2], out=ours[2])
    np.einsum("ij,ij->j", theirs[:2], theirs[:2], out=theirs[3])
    theirs[:2] *= -2
    forth, back = np.empty(here.shape[1], dtype), np.full(there.shape[1], np.inf, dtype)
    some = max(1, _NUM_PAIRS_IN_PRODUCT // there.shape[1])
    for start in range(0, here.shape[1], some):
        squares = ours[:, start : start + some].T @ theirs
        np.minimum.reduce(squares, axis=1, out=forth[start : start + some])
        np.minimum(back, np.minimum.reduce(squares, axis=0), out=back)
    return np.sqrt(forth, dtype=np.float64) * spacing, np.sqrt(back, dtype=np.float64) * spacing


def _by_differences(
    here: npt.NDArray[np.int64], there: npt.NDArray[np.int64], spacing: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compare all pairs, for any spacing."""
    (row, column), theirs = here.astype(np.float64), there.astype(np.float64)
    forth, back = np.empty(here.shape[1]), np.full(there.shape[1], np.inf)
    some = max(1, _NUM_PAIRS_IN_PRODUCT // 2 // there.shape[1])
    for start in range(0, here.shape[1], some):
        squares = np.subtract.outer(row[start : start + some], theirs[0])
        squares *= spacing[0]
        squares *= squares
        across = np.subtract.outer(column[start : start + some], theirs[1])
        across *= spacing[1]
        across *= across
        squares += across
        np.minimum.reduce(squares, axis=1, out=forth[start : start + some])
        np.minimum(back, np.minimum.reduce(squares, axis=0), out=back)
    return np.sqrt(forth), np.sqrt(back)


def _by_transform(
    points: npt.NDArray[np.bool_], targets: npt.NDArray[np.bool_], spacing: float
) -> npt.NDArray[np.float64]:
    """Return distances from `points` to the nearest of `targets`.

    Their squares in pixels are whole numbers.
    """
    away = (~targets).view(np.uint8)
    ipp = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(
        False
    )  # OpenCV with one thread takes IPP's roots, which are up to nine units in the last place off
    try:
        near = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[points].astype(np.float64)
    finally:
        cv2.ipp.setUseIPP(ipp)
    return np.sqrt(np.rint(near * near)) * spacing


def _by_tree(
    here: npt.NDArray[np.int64], there: npt.NDArray[np.int64], spacing: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return distances to the neighbours that a k-d tree names.

    Steps are counted in whole pixels, so that no rounding of the tree stays.
    """
    _, nearest = cKDTree(there.T * spacing).query(here.T * spacing)
    steps = (here - there[:, nearest]).T * spacing
    return np.sqrt(np.square(steps).sum(axis=1))


def diagonal(shape: tuple[int, int], spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Return hypot(H row, W column).

    No two pixels of the image are so far apart.
    """
    return math.hypot(shape[0] * spacing[0], shape[1] * spacing[1])


def summarise(
    lists: Directed, diagonal: float, one_empty: OneEmpty = "inf", both_empty: BothEmpty = "zero"
) -> Distances:
    """Return all distances of one image.

    Args:
        lists: Its directed distances.
        diagonal: The image's diagonal: a finite penalty above any possible distance.
        one_empty: Distances if exactly one mask is empty: infinite, NaN, or `diagonal`.
        both_empty: Distances if both masks are empty: 0 or NaN.
    """
    forth, back = lists
    if not (forth.size and back.size):
        value = (
            {"inf": math.inf, "nan": math.nan, "diagonal": diagonal}[one_empty]
            if forth.size or back.size
            else {"zero": 0.0, "nan": math.nan}[both_empty]
        )
        return Distances(*[value] * len(Distances._fields))
    tops = float(forth[-1]), float(back[-1])
    sums = float(forth.sum()), float(back.sum())
    # A mean of equal numbers can come out one rounding step above them.
    means = min(sums[0] / len(forth), tops[0]), min(sums[1] / len(back), tops[1])
    pooled = np.sort(np.concatenate(lists))
    return Distances(
        hd=max(tops),
        hd95=max(_percentile_95(forth), _percentile_95(back)),
        hd95_pooled=_percentile_95(pooled),
        avd=max(means),
        mad=(means[0] + means[1]) / 2,
        assd=min(max(sum(sums) / len(pooled), min(means)), max(means)),
        avd_truth_to_pred=means[0],
        avd_pred_to_truth=means[1],
    )


def agreeing_share(lists: Directed, tolerance: float) -> float:
    """Return the normalised surface distance (NSD): the share of both contours' points near the other contour.

    Args:
        lists: The directed distances.
        tolerance: A point no farther than this is near; in the unit of the distances.

    Returns:
        1 if both masks are empty, 0 if one is.
    """
    number = len(lists.truth_to_pred) + len(lists.pred_to_truth)
    limit = tolerance * (1 + _ROUNDING)
    near = sum(int(np.searchsorted(each, limit, side="right")) for each in lists)
    return near / number if number else 1.0


def distances(
    truth: npt.NDArray[np.bool_],
    pred: npt.NDArray[np.bool_],
    spacing: tuple[float, float] = (1.0, 1.0),
    *,
    one_empty: OneEmpty = "inf",
    both_empty: BothEmpty = "zero",
) -> Distances:
    """Return all distances of one pair of boolean masks `(H, W)`.

    Args:
        truth: The true mask.
        pred: The predicted mask.
        spacing: `(row, column)`.
        one_empty: See `summarise`.
        both_empty: See `summarise`.

    >>> left, right = np.zeros((2, 1, 8), bool)
    >>> left[0, 1] = right[0, 4] = right[0, 6] = True
    >>> distances(left, right)[:1], distances(left, right, (1.0, 0.5)).avd
    ((5.0,), 2.0)
    """
    return summarise(directed_distances(truth, pred, spacing), diagonal(truth.shape, spacing), one_empty, both_empty)


def _percentile_95(ascending: npt.NDArray[np.float64]) -> float:
    """Return NumPy's default percentile, without its overhead."""
    position = 0.95 * (len(ascending) - 1)
    below = int(position)
    low, high = float(ascending[below]), float(ascending[min(below + 1, len(ascending) - 1)])
    return min(low + (position - below) * (high - low), high)
