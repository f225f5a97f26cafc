"""Masks from probabilities, metrics from pixel counts, means over patients, and the baseline's mask.

docs/metrics.md has the formulas.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

THRESHOLD = 32768
"""One half as a stored probability, rint(p * 65535)."""

COUNT_METRICS = ("dsc", "iou", "sen", "sp", "pc", "acc")


class Masks(Protocol):
    """Masks `(H, W)` of one shape: an array `(N, H, W)`, or what need not hold them all in memory."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, place: int, /) -> npt.NDArray[np.bool_]:
        """Return one mask."""


def quantise(probability: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Return probabilities in [0, 1] as they are stored: rint(p * 65535) in float64, half to even."""
    return np.rint(probability.astype(np.float64) * 65535.0).astype(np.uint16)


def predicted_mask(
    levels: npt.NDArray[np.uint16],
    threshold: float = 0.5,
    keep: Literal["all", "largest"] = "all",
    fill_holes: bool = False,
) -> npt.NDArray[np.bool_]:
    """Make a mask of stored probabilities: cut, choose the piece, fill its holes.

    Args:
        levels: A map `(H, W)` as `quantise` has it.
        threshold: Between 0 and 1. It is rounded as probabilities are, so each p >= threshold is in; 0 never is.
        keep: `largest` keeps the largest piece alone, see `largest_piece`.
        fill_holes: Whether background that the mask encloses, with no way to the border through edge-neighbours,
            becomes part of it.

    Returns:
        `(H, W)`; empty if no probability is high enough.

    >>> predicted_mask(np.array([[19660, 19661, 0, 65535]], np.uint16), threshold=0.3, keep="largest").tolist()
    [[True, True, False, False]]
    """
    mask: npt.NDArray[np.bool_] = levels >= max(1, round(threshold * 65535))
    if keep == "largest":
        mask = largest_piece(mask)
    return _filled(mask) if fill_holes else mask


def largest_piece(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest connected piece of a mask `(H, W)`.

    Pixels that touch at a corner belong together. Of equally large pieces it is the one that a reader of the rows meets
    first. An empty mask stays empty.
    """
    from scipy import ndimage

    pieces, number = ndimage.label(mask, np.ones((3, 3)))  # numbered from 1 in the order of their first pixels
    if number < 2:
        return mask
    largest: npt.NDArray[np.bool_] = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return largest


def _filled(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a mask with its holes filled."""
    from scipy import ndimage

    # a frame around the image joins all background that reaches the border; binary_fill_holes is far slower
    pieces, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    filled: npt.NDArray[np.bool_] = pieces[1:-1, 1:-1] != pieces[0, 0]
    return filled


def counts(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Count the pixels of masks.

    Args:
        predicted: `(…, H, W)`.
        truth: The same shape.

    Returns:
        TP, FP, FN, TN, `(…, 4)`.

    Raises:
        ValueError: If the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks differ in shape: {predicted.shape} and {truth.shape}")
    pixels = predicted.shape[-1] * predicted.shape[-2]
    both = np.count_nonzero(predicted & truth, axis=(-2, -1))
    in_prediction = np.count_nonzero(predicted, axis=(-2, -1))
    in_truth = np.count_nonzero(truth, axis=(-2, -1))
    neither = pixels - in_prediction - in_truth + both
    return np.stack([both, in_prediction - both, in_truth - both, neither], axis=-1).astype(np.int64)


def from_counts(name: str, tp_fp_fn_tn: npt.ArrayLike, policy: str = "defined") -> npt.NDArray[np.float64]:
    """Return a metric of each image, `(…)`.

    If both masks are empty, DSC = IoU = SEN = PC = 1.

    Args:
        name: One of `COUNT_METRICS`.
        tp_fp_fn_tn: Counts `(…, 4)`.
        policy: For 0/0, `defined` gives 1 if prediction and truth agree on the class concerned, else 0; `strict` gives
            NaN.

    >>> from_counts("dsc", [[3, 1, 2, 10], [0, 0, 0, 16]]).tolist()
    [0.6666666666666666, 1.0]
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(tp_fp_fn_tn, dtype=np.float64), -1, 0)
    above, below, agree = {
        "dsc": (2 * tp, 2 * tp + fp + fn, fp + fn == 0),
        "iou": (tp, tp + fp + fn, fp + fn == 0),
        "sen": (tp, tp + fn, fp == 0),
        "sp": (tn, tn + fp, fn == 0),
        "pc": (tp, tp + fp, fn == 0),
        "acc": (tp + tn, tp + fp + fn + tn, fp + fn == 0),
    }[name]
    undefined = np.nan if policy == "strict" else agree.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below == 0, undefined, above / below)


def agreement(masks: npt.NDArray[np.bool_]) -> float:
    """Return how far the members of an ensemble agree on an image: the mean DSC over all pairs of their masks.

    Args:
        masks: One mask a member, `(M, H, W)`.

    Returns:
        From 0 to 1; two empty masks agree fully. NaN for one member, who has nobody to agree with.

    >>> agreement(np.array([[[True, False]], [[True, True]], [[False, False]]]))  # pairs 2/3, 0, 0
    0.2222222222222222
    """
    if len(masks) < 2:
        return float("nan")
    bits = np.packbits(masks.reshape(len(masks), -1), axis=1)  # many times faster than pixel by pixel
    one, other = np.triu_indices(len(masks), k=1)
    sizes = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    both = np.bitwise_count(bits[one] & bits[other]).sum(axis=1, dtype=np.int64)
    pairs = np.stack([both, sizes[one] - both, sizes[other] - both, np.zeros_like(both)], axis=-1)
    return float(from_counts("dsc", pairs).mean())


def patient_means(values: npt.NDArray[np.float64], patients: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the mean of each patient's images, patients in sorted order; none for no images."""
    _, index = np.unique(np.asarray(patients), return_inverse=True)
    return np.bincount(index, weights=values) / np.maximum(np.bincount(index), 1)


def patient_scores(
    metric: str, tp_fp_fn_tn: npt.ArrayLike, patients: npt.NDArray[np.int64], num_patients: int
) -> npt.NDArray[np.float64]:
    """Return each patient's mean score over their images.

    Args:
        metric: One of `COUNT_METRICS`.
        tp_fp_fn_tn: Counts of the images `(N, 4)`.
        patients: A number from 0 to P - 1 for each image.
        num_patients: P.

    Returns:
        `(P,)`; NaN for patients who have no image here.
    """
    number = np.bincount(patients, minlength=num_patients)
    sums = np.bincount(patients, weights=from_counts(metric, tp_fp_fn_tn), minlength=num_patients)
    return np.divide(sums, number, out=np.full(num_patients, np.nan), where=number > 0)


def criterion(scores: npt.NDArray[np.float64]) -> float:
    """Return a search's score of a trial: the mean over folds of the mean over their patients.

    Args:
        scores: Patients' scores `(K, P)`; NaN for a patient who is not judged in a fold.

    Returns:
        NaN without folds.

    >>> criterion(np.array([[0.5, 1.0, np.nan], [np.nan, np.nan, 0.25]]))
    0.5
    """
    return float(np.nanmean(scores, axis=1).mean()) if len(scores) else float("nan")


# ---- one mask for all images --------------------------------------------------------------------

_NUM_CUTS = 20
"""The mean of masks is cut at the multiples of a twentieth between 0 and 1."""
_NUM_DECIMALS = 12
"""Sums of fractions are rounded to so many, so that equal ones tie, whatever the order of their terms."""
_ROUNDING = 1e-6
"""A mean has single precision once it is resized: .35 may come out somewhat lower."""


class FixedMask(NamedTuple):
    """The one mask that fits the truths of some patients best: a prediction that looks at no image."""

    mean: npt.NDArray[np.float64]
    """`(H, W)`: the share of the patients' lesions that cover a pixel; patients weigh the same."""
    threshold: float
    training_score: float
    """The mean over these patients of the patient's mean DSC."""

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Return the mask `(H, W)`: the pixels whose mean is the threshold at least."""
        return self.mean >= self.threshold - _ROUNDING


def patient_weights(patients: npt.ArrayLike, chosen: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
    """Return the images' weights in a mean over patients of the patient's mean.

    Args:
        patients: The patient of each image `(N,)`.
        chosen: Which images take part; by default all.

    Returns:
        `(N,)`, 1 in sum; 0 for images that take no part.
    """
    _, index = np.unique(np.asarray(patients), return_inverse=True)
    parts = np.ones(len(index)) if chosen is None else chosen.astype(np.float64)
    number = np.bincount(index, weights=parts)
    return parts / np.maximum(number, 1)[index] / np.maximum(np.count_nonzero(number), 1)


def fixed_masks(masks: Masks, weights: npt.NDArray[np.float64]) -> list[FixedMask]:
    """Return the one mask that fits best, for each of several sets of images.

    Their weighted mean is cut at .05, .10 … .95; the cut with the best weighted mean DSC wins, the first on ties.

    Args:
        masks: The truths of N images, one at least; each is asked for twice.
        weights: `(K, N)`: the images' weights in each set (`patient_weights`).
    """
    shape = masks[0].shape
    means = np.zeros((len(weights), shape[0] * shape[1]))
    for place in range(len(masks)):
        pixels = np.flatnonzero(masks[place])
        for mean, weight in zip(means, weights[:, place], strict=True):
            if weight:
                mean[pixels] += weight
    means = np.round(means, _NUM_DECIMALS)
    # A pixel of level c is in the masks of the first c cuts.
    levels = np.minimum(means * _NUM_CUTS + _NUM_CUTS * _ROUNDING, _NUM_CUTS - 1).astype(np.uint8)
    sizes = np.stack([_at_least(level) for level in levels])
    totals = np.zeros((len(weights), _NUM_CUTS - 1))
    for place in range(len(masks)):
        pixels = np.flatnonzero(masks[place])
        for total, level, size, weight in zip(totals, levels, sizes, weights[:, place], strict=True):
            if weight:
                both = size + len(pixels)
                total += weight * np.where(both == 0, 1.0, 2 * _at_least(level[pixels]) / np.maximum(both, 1))
    best = np.round(totals, _NUM_DECIMALS).argmax(axis=1)
    return [
        FixedMask(mean.reshape(shape), float(cut + 1) / _NUM_CUTS, float(total[cut]))
        for mean, total, cut in zip(means, totals, best, strict=True)
    ]


def fixed_mask_score(masks: Masks, patients: npt.ArrayLike) -> float:
    """Return the DSC that one fixed mask reaches on the truths that it is made of.

    Args:
        masks: `(N, H, W)`, one at least.
        patients: The patient of each, `(N,)`.

    Returns:
        The mean over patients of the patient's mean.

    >>> fixed_mask_score(np.eye(2, dtype=bool)[[0, 0], None], [1, 2])
    1.0
    """
    (best,) = fixed_masks(masks, patient_weights(patients)[None])
    return best.training_score


def _at_least(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count the pixels of level 1 and more, 2 and more, … 19."""
    return np.bincount(levels.ravel(), minlength=_NUM_CUTS)[:0:-1].cumsum()[::-1]
