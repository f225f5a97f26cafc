"""Signs that data may not be what they are taken for, as one line each with a count.

Each can be true of sound data, so they are warnings; only a picture that is its own mask is a defect (`is_its_mask`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LARGE_SHARE = 0.5
"""A lesion above this share of the picture is large."""
MANY_LARGE = 0.25
"""If this part of the lesions is large, background and lesion may be swapped; a few large ones are nothing odd."""
SPACING_MM = (1e-4, 2.0)
"""From a microscope's pixels to those of an ultrasound image of great depth."""
_MIN_CORRELATION = 0.98


class MaskFacts(NamedTuple):
    """The facts of a mask by which it is judged."""

    share: float
    """The share of its pixels that is lesion."""
    has_corners: bool
    """Whether all four corners are lesion."""
    digest: bytes
    """Of its size and pixels."""


def mask_facts(mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_], digest: bytes = b"") -> MaskFacts:
    """Return the facts of a mask `(H, W)` of 0 and 1."""
    return MaskFacts(float(mask.mean()), bool(mask[[0, 0, -1, -1], [0, -1, 0, -1]].all()), digest)


def is_its_mask(gray: npt.NDArray[np.generic], mask: npt.NDArray[np.uint8]) -> bool:
    """Return whether a picture `(H, W)` shows its mask in two gray values."""
    low, high = gray.min(), gray.max()
    if low == high or not ((gray == low) | (gray == high)).all():
        return False
    return np.array_equal(gray == high, mask != 0) or np.array_equal(gray == low, mask != 0)


def resembles_its_mask(gray: npt.NDArray[np.generic], mask: npt.NDArray[np.uint8]) -> bool:
    """Return whether a picture `(H, W)` shows nothing but its mask, as a copy in other gray values does."""
    if gray.min() == gray.max() or mask.min() == mask.max():
        return False
    lesion = mask != 0
    values = gray.astype(np.float64)
    share, spread = lesion.mean(), values.std()
    difference = values[lesion].mean() - values[~lesion].mean()
    return bool(abs(difference) * np.sqrt(share * (1 - share)) >= _MIN_CORRELATION * spread)


def mask_signs(names: Sequence[str], masks: Sequence[MaskFacts], what: str = "masks") -> list[str]:
    """Return what is odd about masks.

    Args:
        names: The masks', for examples.
        masks: Their facts, one each.
        what: What they are called: `masks`, `truths`, `predictions`.
    """
    lines = []
    if masks and not any(mask.share for mask in masks):
        lines.append(f"all {len(masks)} {what} are empty: no lesion is marked anywhere")
    whole = [name for name, mask in zip(names, masks, strict=True) if mask.share == 1]
    are_many = sum(mask.share > LARGE_SHARE for mask in masks) >= MANY_LARGE * sum(mask.share > 0 for mask in masks)
    swapped = [
        name
        for name, mask in zip(names, masks, strict=True)
        if mask.share < 1 and (mask.has_corners or (are_many and mask.share > LARGE_SHARE))
    ]
    if whole:
        lines.append(f"{len(whole)} of {len(masks)} {what} cover the whole image, such as {whole[0]}")
    if swapped:
        lines.append(
            f"in {len(swapped)} of {len(masks)} {what} the lesion covers most of the image or all its corners, such as "
            f"{swapped[0]}: see that lesion and background are not swapped"
        )
    return lines


def equal_signs(truths: Sequence[MaskFacts], is_equal: Sequence[bool], what: str = "predictions") -> list[str]:
    """Return a line if all predictions equal their truths, and there is a lesion at all.

    Args:
        truths: The facts of the true masks.
        is_equal: Of each, whether the prediction equals it pixel by pixel.
        what: What the predictions are called.
    """
    if not any(truth.share for truth in truths) or not all(is_equal):
        return []
    return [f"all {len(truths)} {what} equal their truths pixel by pixel: see that they are not the truths themselves"]


def repeated_masks(names: Sequence[str], patients: Sequence[str], masks: Sequence[MaskFacts]) -> list[str]:
    """Return a line if a file is the mask of several images, or several patients have one mask, pixel by pixel."""
    first: dict[bytes, int] = {}
    pairs = []
    for place, mask in enumerate(masks):
        if 0 < mask.share < 1:  # empty and full masks are all alike
            before = first.setdefault(mask.digest, place)
            if before != place and (names[before] == names[place] or patients[before] != patients[place]):
                pairs.append((names[before], names[place]))
    more = f" ({len(pairs)} masks are such)" if len(pairs) > 1 else ""
    return [
        f"{other} is the mask of another image too{more}; see that each image has its own"
        if one == other
        else f"{other} equals {one}, the mask of another patient, pixel by pixel{more}; see that each image has its own"
        for one, other in pairs[:1]
    ]


def spacing_signs(spacing: Sequence[float]) -> list[str]:
    """Return a line if spacing in mm, NaN if unknown, is none that a picture of tissue has."""
    low, high = SPACING_MM
    odd = [value for value in spacing if not (np.isnan(value) or low <= value <= high)]
    return [
        f"{len(odd)} of {len(spacing)} images have a spacing of {value:g} mm a pixel or the like, and {low:g} to "
        f"{high:g} is usual: see that it is in mm"
        for value in odd[:1]
    ]
