"""Signs that data may not be what they are taken for, as one line each with a count.

Each can be true of sound data, so they are warnings; only a picture that is its own mask is a defect (`is_its_mask`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.metrics import fixed_mask_score

LARGE_SHARE = 0.5
"""A lesion above this share of the picture is large."""
MANY_LARGE = 0.25
"""If this part of the lesions is large, background and lesion may be swapped; a few large ones are nothing odd."""
SPACING_MM = (1e-4, 2.0)
"""From a microscope's pixels to those of an ultrasound image of great depth."""
MOST_FILLING = 0.5
"""If this part of the lesions touches all borders, the pictures are cut out around them; a few just fill theirs."""
HIGH_FIXED_DSC = 0.7
"""Networks hardly score higher on many sets."""
_FEWEST_FITTED_PATIENTS = 5
"""One mask fits the lesions of fewer by chance."""
_SMALL_SIDE = 64
"""Pixels; thousands of masks of this size are compared in a second."""
_MIN_CORRELATION = 0.98


class MaskFacts(NamedTuple):
    """The facts of a mask by which it is judged."""

    share: float
    """The share of its pixels that is lesion."""
    has_corners: bool
    """Whether all four corners are lesion."""
    digest: bytes
    """Of its size and pixels."""
    has_borders: bool = False
    """Whether it touches all four borders."""
    is_outline: bool = False
    """Whether it has a hole of more pixels than the mask."""


@dataclass(frozen=True)
class SmallMasks:
    """Masks on a common grid of 64 x 64 pixels, eight pixels a byte (`small_mask`)."""

    packed: Sequence[bytes]

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.packed)

    def __getitem__(self, place: int) -> npt.NDArray[np.bool_]:
        """Return a mask `(64, 64)`."""
        pixels = np.unpackbits(np.frombuffer(self.packed[place], np.uint8))
        return pixels.view(np.bool_).reshape(_SMALL_SIDE, _SMALL_SIDE)


def small_mask(mask: npt.NDArray[np.uint8]) -> bytes:
    """Return a mask `(H, W)` of 0 and 1 on the grid of `SmallMasks`: a pixel is lesion if half of its area is."""
    area = cv2.resize(255 * mask, (_SMALL_SIDE, _SMALL_SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(area >= 128).tobytes()


def mask_facts(mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_], digest: bytes = b"") -> MaskFacts:
    """Return the facts of a mask `(H, W)` of 0 and 1."""
    return MaskFacts(
        float(mask.mean()),
        bool(mask[[0, 0, -1, -1], [0, -1, 0, -1]].all()),
        digest,
        all(bool(border.any()) for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1])),
        _is_outline(mask),
    )


def _is_outline(mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]) -> bool:
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    left, top, width, height = cv2.boundingRect(pixels)
    box = pixels[top : top + height, left : left + width]
    num_lesion = np.count_nonzero(box)
    if box.size <= 2 * num_lesion:  # no room for such a hole, as in most masks
        return False
    around = np.pad(box == 0, 1, constant_values=True).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(around, connectivity=4)
    holes = np.delete(stats[:, cv2.CC_STAT_AREA], [0, labels[0, 0]])  # 0 is the lesion
    return bool((holes > num_lesion).any())


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


def mask_signs(
    names: Sequence[str], masks: Sequence[MaskFacts], what: str = "masks", target: str = "lesion"
) -> list[str]:
    """Return what is odd about masks.

    Args:
        names: The masks', for examples.
        masks: Their facts, one each.
        what: What they are called: `masks`, `truths`, `predictions`.
        target: What they show, in print.
    """
    lines = []
    if masks and not any(mask.share for mask in masks):
        lines.append(f"all {len(masks)} {what} are empty: no {target} is marked anywhere")
    are_many = sum(mask.share > LARGE_SHARE for mask in masks) >= MANY_LARGE * sum(mask.share > 0 for mask in masks)
    filling = [mask.has_borders and not mask.has_corners for mask in masks]
    are_cut_out = any(filling) and sum(filling) >= MOST_FILLING * sum(mask.share > 0 for mask in masks)
    whole, swapped, outlines, cut_out = [], [], [], []
    for name, mask, is_filling in zip(names, masks, filling, strict=True):
        if mask.share == 1:
            whole.append(name)
        elif are_cut_out and is_filling:
            cut_out.append(name)
        elif mask.has_corners or (are_many and mask.share > LARGE_SHARE):
            swapped.append(name)
        elif mask.is_outline:
            outlines.append(name)
    of_all = f"of {len(masks)} {what}"
    if whole:
        lines.append(f"{len(whole)} {of_all} cover the whole image, such as {whole[0]}")
    if swapped:
        lines.append(
            f"in {len(swapped)} {of_all} the {target} covers most of the image or all its corners, such as "
            f"{swapped[0]}: see that {target} and background are not swapped"
        )
    if outlines:
        lines.append(
            f"in {len(outlines)} {of_all} a hole is larger than the rest of the mask, such as {outlines[0]}: see that "
            "they are filled areas and not outlines"
        )
    if cut_out:
        lines.append(
            f"in {len(cut_out)} {of_all} the {target} touches all four borders of the picture, such as {cut_out[0]}: "
            "see that pictures are not cut out around it, which tells a network where it is"
        )
    return lines


def all_have_lesions(shares: Sequence[float], target: str = "lesion") -> list[str]:
    """Return a line if no mask is empty, by the share of its pixels that is lesion; nothing without masks."""
    if not shares or not all(shares):
        return []
    return [
        f"no image is without the {target}: false alarms cannot be measured, and a network that is trained on such "
        "images alone never learns to find nothing"
    ]


def fixed_mask_signs(masks: SmallMasks, patients: Sequence[str], target: str = "lesion") -> list[str]:
    """Return a line if one mask that looks at no image fits the masks well.

    Args:
        masks: One at least.
        patients: The patient of each.
        target: What the masks show, in print.
    """
    if len(set(patients)) < _FEWEST_FITTED_PATIENTS or not any(map(any, masks.packed)):
        return []
    score = fixed_mask_score(masks, patients)
    if score <= HIGH_FIXED_DSC:
        return []
    return [
        f"one fixed mask, which looks at no image, has a DSC of {score:.2f} on these masks, because the {target} lies "
        "much alike in them: judge a network by how far it is above that"
    ]


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
