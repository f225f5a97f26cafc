"""All metrics of a predicted mask against its truth, for single images and stacks.

Overlap metrics are in [0, 1], distances in the unit of the spacing. `image_metrics` says what each number means if a
mask is empty.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.analysis.measures.calibration import CALIBRATION, calibration
from eus_ray.analysis.measures.distances import (
    TOLERANCE,
    BothEmpty,
    Distances,
    OneEmpty,
    agreeing_share,
    bounding_box,
    check_spacing,
    contour_distances,
    diagonal,
    summarise,
)
from eus_ray.metrics import COUNT_METRICS, from_counts, largest_piece

COUNTS = ("tp", "fp", "fn", "tn")
OVERLAPS = COUNT_METRICS
DISTANCES = (*Distances._fields, "hd_largest")
FINDINGS = ("missed", "false_alarm", "components", "empty")
METRICS = (
    *COUNTS,
    *OVERLAPS,
    *Distances._fields,
    "auc",
    *FINDINGS[:3],
    "nsd",
    "hd_largest",
    "empty",
    *CALIBRATION,
)
"""The columns that `image_metrics` gives, in the order of `images.parquet`: later ones came at its end."""

OverlapPolicy = Literal["defined", "strict"]


def as_masks(values: npt.ArrayLike, name: str = "mask") -> npt.NDArray[np.bool_]:
    """Return masks `(H, W)` or `(N, H, W)`, boolean or integers 0 and 1, as booleans.

    Raises:
        ValueError: For another rank, an image without pixels, or any other value. Probabilities are refused too:
            binarise them first (`probability >= 0.5`).
    """
    array = np.asarray(values)
    if array.ndim not in (2, 3) or 0 in array.shape[-2:]:
        raise ValueError(f"{name}: must be (H, W) or (N, H, W) with H, W >= 1, not {array.shape}")
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: must be boolean or integers 0 and 1, not {array.dtype}; binarise it first (p >= 0.5)"
        )
    # A signed -1 has a large unsigned twin, so that one comparison finds every stranger.
    if array.size and array.view(f"u{array.itemsize}").max() > 1:
        strangers = np.setdiff1d(array, [0, 1])[:3].tolist()
        raise ValueError(f"{name}: must hold 0 and 1 alone, but has {', '.join(map(str, strangers))}")
    return array.astype(np.bool_)


def auc(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the area under the ROC curve of pixels.

    It is Mann-Whitney's with ties, which is the trapezoid's.

    Args:
        scores: Real numbers of any dtype and shape, compared in their own precision.
        truth: A mask of that shape.

    Returns:
        The area; NaN if the truth has one class only.

    Raises:
        ValueError: For NaN scores or another shape.
    """
    values, labels = np.asarray(scores), np.asarray(truth)
    if values.shape != labels.shape:
        raise ValueError(f"scores and truth differ in shape: {values.shape} and {labels.shape}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"scores must be real numbers, not {values.dtype}")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("scores hold NaN")
    if labels.dtype != np.bool_:
        labels = as_masks(np.atleast_2d(labels), "truth").reshape(labels.shape)
    positive, negative = values[labels], values[~labels]
    if not positive.size or not negative.size:
        return float("nan")
    if values.dtype in (np.uint8, np.uint16):
        at = np.bincount(negative, minlength=int(positive.max()) + 1)
        twice = int((2 * np.cumsum(at) - at)[positive].sum())
    else:
        negative = np.sort(negative)
        below, up_to = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
        twice = int(below.sum()) + int(up_to.sum())
    return twice / (2 * positive.size * negative.size)


def num_components(mask: npt.NDArray[np.bool_]) -> int:
    """Count the separate regions of a boolean mask `(H, W)`.

    Pixels that touch at a corner belong together.
    """
    return _pieces(np.ascontiguousarray(mask[bounding_box(mask)]))[0]


def _pieces(mask: npt.NDArray[np.bool_]) -> tuple[int, npt.NDArray[np.bool_]]:
    """Return how many regions a mask without much around it has, and the largest one: `metrics.largest_piece`."""
    if not mask.size:
        return 0, mask
    number, labels, facts, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if number <= 2:
        return number - 1, mask
    areas = facts[1:, cv2.CC_STAT_AREA]
    largest = 1 + np.flatnonzero(areas == areas.max())
    if len(largest) > 1:  # OpenCV numbers regions by blocks of four pixels, and the first pixel decides
        return number - 1, largest_piece(mask)
    return number - 1, labels == largest


def _counts(truth: npt.NDArray[np.bool_], pred: npt.NDArray[np.bool_], pixels: int) -> tuple[int, int, int, int]:
    """Return TP, FP, FN, TN of masks cut out of an image of so many pixels."""
    tp, in_truth, in_pred = (int(np.count_nonzero(mask)) for mask in (truth & pred, truth, pred))
    return tp, in_pred - tp, in_truth - tp, pixels - in_truth - in_pred + tp


def image_metrics(
    truth: npt.ArrayLike,
    pred: npt.ArrayLike,
    *,
    scores: npt.ArrayLike | None = None,
    levels: npt.NDArray[np.uint16] | None = None,
    spacing: npt.ArrayLike = (1.0, 1.0),
    tolerance: float = TOLERANCE,
    overlap: OverlapPolicy = "defined",
    one_empty: OneEmpty = "inf",
    both_empty: BothEmpty = "zero",
) -> dict[str, npt.NDArray[np.generic]]:
    """Return all of `METRICS` by name.

    `missed`: the truth has a lesion, and no pixel of it is predicted. `false_alarm`: the truth is empty, and something
    is predicted. `empty`: nothing is predicted. `components`: regions of the prediction. `hd_largest`: the Hausdorff
    distance of the largest region alone.

    Args:
        truth: Masks `(H, W)` or `(N, H, W)`, boolean or 0 and 1.
        pred: Masks of the same shape.
        scores: Ranks the pixels for the AUC, in the masks' shape (probabilities, logits or levels, as they are). The
            AUC is NaN without them, and if the truth is empty or full.
        levels: Probabilities as they are stored, rint(p · 65535), in the masks' shape; `CALIBRATION` is NaN without.
        spacing: `(row, column)`, or `(N, 2)` for one an image; the unit of distances.
        tolerance: Contours agree within this distance (`nsd`); both masks empty: 1, one empty: 0.
        overlap: The value of 0/0. `defined`: 1 if truth and prediction agree on the class concerned, else 0 (both
            empty: DSC = IoU = SEN = PC = 1). `strict`: NaN.
        one_empty: Distances if one mask is empty, see `summarise`.
        both_empty: Distances if both masks are empty, see `summarise`.

    Returns:
        Arrays `(N,)` for masks `(N, H, W)`, scalars for one pair `(H, W)`.

    Raises:
        ValueError: For masks that are none, shapes that differ, and spacings that are not positive.
    """
    truths, preds = as_masks(truth, "truth"), as_masks(pred, "pred")
    if truths.shape != preds.shape:
        raise ValueError(f"truth and pred differ in shape: {truths.shape} and {preds.shape}")
    ranked = None if scores is None else np.asarray(scores)
    for name, given in (("scores", ranked), ("levels", levels)):
        if given is not None and given.shape != truths.shape:
            raise ValueError(f"{name} and truth differ in shape: {given.shape} and {truths.shape}")
    single = truths.ndim == 2
    if single:
        truths, preds = truths[None], preds[None]
        ranked, levels = (None if given is None else given[None] for given in (ranked, levels))
    steps = np.asarray(spacing, dtype=np.float64)
    per_image = [check_spacing(one) for one in steps] if steps.ndim == 2 else [check_spacing(spacing)] * len(truths)
    if len(per_image) != len(truths):
        raise ValueError(f"spacing has {len(per_image)} rows for {len(truths)} images")

    counts = np.empty((len(truths), 4), np.int64)
    lengths, agreeing = np.empty((len(truths), len(DISTANCES))), np.empty(len(truths))
    areas, regions = np.full(len(truths), np.nan), np.zeros(len(truths), np.int64)
    calibrated = np.full((len(truths), len(CALIBRATION)), np.nan)
    for index, (true, found, step) in enumerate(zip(truths, preds, per_image, strict=True)):
        box = bounding_box(true, found)  # all beyond it is background in both
        lesion, guess = np.ascontiguousarray(true[box]), np.ascontiguousarray(found[box])
        counts[index] = _counts(lesion, guess, true.size)
        lists = contour_distances(lesion, guess, step)
        all_pieces = summarise(lists, diagonal(true.shape, step), one_empty, both_empty)
        regions[index], largest = _pieces(guess)
        is_torn = regions[index] > 1 and lesion.any()
        alone = contour_distances(lesion, largest, step) if is_torn else lists
        lengths[index] = *all_pieces, max(each[-1] for each in alone) if is_torn else all_pieces.hd
        agreeing[index] = agreeing_share(lists, tolerance)
        if ranked is not None:
            areas[index] = auc(ranked[index], true)
        if levels is not None:
            calibrated[index] = calibration(levels[index], true, found)[1:]

    tp, fp, fn, _ = counts.T
    result: dict[str, npt.NDArray[np.generic]] = {
        **dict(zip(COUNTS, counts.T.copy(), strict=True)),
        **{name: from_counts(name, counts, overlap) for name in OVERLAPS},
        **dict(zip(DISTANCES, lengths.T.copy(), strict=True)),
        "auc": areas,
        "missed": (tp == 0) & (fn > 0),
        "false_alarm": (tp + fn == 0) & (fp > 0),
        "components": regions,
        "nsd": agreeing,
        "empty": tp + fp == 0,
        **dict(zip(CALIBRATION, calibrated.T.copy(), strict=True)),
    }
    result = {name: result[name] for name in METRICS}
    return {name: values[0] for name, values in result.items()} if single else result
