"""Signs of odd data, worked by hand on pictures of 4 by 5 pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from eus_ray.data.signs import (
    MaskFacts,
    is_its_mask,
    mask_facts,
    mask_signs,
    repeated_masks,
    resembles_its_mask,
    spacing_signs,
)

MASK = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    np.uint8,
)
EMPTY, FULL = 0 * MASK, 0 * MASK + 1


def small(share: float = 0.2, digest: bytes = b"a") -> MaskFacts:
    return MaskFacts(share, False, digest)


def test_facts_of_a_mask() -> None:
    assert mask_facts(MASK, b"x") == MaskFacts(0.2, False, b"x")  # 4 of 20
    assert mask_facts(MASK != 0) == MaskFacts(0.2, False, b"")
    assert mask_facts(EMPTY) == MaskFacts(0.0, False, b"")
    assert mask_facts(FULL) == MaskFacts(1.0, True, b"")
    assert mask_facts(1 - MASK) == MaskFacts(0.8, True, b"")
    corners = EMPTY.copy()
    corners[[0, 0, -1, -1], [0, -1, 0, -1]] = 1
    assert mask_facts(corners) == MaskFacts(0.2, True, b"")
    corners[0, 0] = 0
    assert mask_facts(corners) == MaskFacts(0.15, False, b"")
    assert mask_facts(np.ones((1, 1), np.uint8)) == MaskFacts(1.0, True, b"")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_picture_in_two_values_may_be_its_mask(dtype: npt.DTypeLike) -> None:
    gray = MASK.astype(dtype)
    assert is_its_mask(gray, MASK)
    assert is_its_mask(gray * 200 + 7, MASK)  # any two values
    assert is_its_mask(200 - gray * 100, MASK)  # the lesion dark
    assert is_its_mask(gray, 255 * MASK)
    assert not is_its_mask(gray * 0 + 9, MASK)  # one value
    assert not is_its_mask(gray * 0, EMPTY)
    other = gray.copy()
    other[0, 0] = 1
    assert not is_its_mask(other, MASK)  # another shape
    three = gray * 100
    three[0, 0] = 50
    assert not is_its_mask(three, MASK)  # three values


def test_a_picture_may_show_little_but_its_mask() -> None:
    assert resembles_its_mask(MASK * np.uint8(255), MASK)
    assert resembles_its_mask(255 - MASK * np.uint8(200), MASK)
    noisy = MASK.astype(np.float64) * 100 + np.arange(20).reshape(4, 5) % 3  # as a JPEG of the mask
    assert resembles_its_mask(noisy, MASK)
    assert not resembles_its_mask(np.arange(20, dtype=np.uint8).reshape(4, 5), MASK)
    assert not resembles_its_mask(0 * MASK + 7, MASK)
    assert not resembles_its_mask(MASK, EMPTY)
    assert not resembles_its_mask(MASK, FULL)


@pytest.mark.parametrize(("noise", "is_alike"), [(10.0, True), (12.0, False)])
def test_from_a_correlation_of_098_a_picture_resembles_its_mask(noise: float, is_alike: bool) -> None:
    """Half the pixels are lesion, 100 brighter; half of each kind are `noise` above, half below.

    The correlation is 50 / sqrt(50² + noise²): .9806 and .9724.
    """
    mask = np.repeat([[0, 0, 1, 1]], 4, axis=0)
    gray = mask * 100.0 + noise * np.where(np.arange(4) % 2, 1, -1)
    assert math.isclose(np.corrcoef(gray.ravel(), mask.ravel())[0, 1], 50 / math.hypot(50, noise))
    assert resembles_its_mask(gray, mask.astype(np.uint8)) == is_alike


def test_signs_of_masks() -> None:
    usual = [small(), small(0.5), MaskFacts(0.0, False, b"")]
    assert mask_signs(["a", "b", "c"], usual) == []
    assert mask_signs([], []) == []
    empty = MaskFacts(0.0, False, b"")
    assert mask_signs(["a", "b"], [empty] * 2) == ["all 2 masks are empty: no lesion is marked anywhere"]
    assert mask_signs(["a"], [empty], "truths") == ["all 1 truths are empty: no lesion is marked anywhere"]
    full = MaskFacts(1.0, True, b"")
    assert mask_signs(["a", "b", "c"], [small(), full, full]) == ["2 of 3 masks cover the whole image, such as b"]
    swapped = (
        "in 1 of 2 predictions the lesion covers most of the image or all its corners, such as b: see that lesion and "
        "background are not swapped"
    )
    for odd in (MaskFacts(0.51, False, b""), MaskFacts(0.1, True, b"")):
        assert mask_signs(["a", "b"], [small(), odd], "predictions") == [swapped]


END = "; see that each image has its own"


@pytest.mark.parametrize(
    ("names", "patients", "masks", "lines"),
    [
        (["a", "b"], ["P1", "P2"], [small(), small(digest=b"b")], []),
        (["a", "b"], ["P1", "P1"], [small(), small()], []),  # a patient's still lesion
        (["a", "b"], ["P1", "P2"], [MaskFacts(0.0, False, b"a")] * 2, []),
        (["a", "b"], ["P1", "P2"], [MaskFacts(1.0, True, b"a")] * 2, []),
        (["a", "a"], ["P1", "P1"], [small(), small()], [f"a is the mask of another image too{END}"]),
        (
            ["a", "b"],
            ["P1", "P2"],
            [small(), small()],
            [f"b equals a, the mask of another patient, pixel by pixel{END}"],
        ),
        (
            ["a", "b", "c"],
            ["P1", "P2", "P3"],
            [small(), small(), small()],
            [f"b equals a, the mask of another patient, pixel by pixel (2 masks are such){END}"],
        ),
    ],
)
def test_masks_that_are_repeated(names: list[str], patients: list[str], masks: Any, lines: list[str]) -> None:
    assert repeated_masks(names, patients, masks) == lines


def test_spacing_that_no_tissue_has() -> None:
    assert spacing_signs([0.1, math.nan, 0.0001, 2.0]) == []
    assert spacing_signs([]) == []
    (line,) = spacing_signs([0.1, 12_000.0, 0.00001, math.nan])
    assert line == (
        "2 of 4 images have a spacing of 12000 mm a pixel or the like, and 0.0001 to 2 is usual: see that it is in mm"
    )


def test_a_few_large_lesions_are_nothing_odd() -> None:
    small, large = MaskFacts(0.1, has_corners=False, digest=b""), MaskFacts(0.6, has_corners=False, digest=b"")
    assert mask_signs("abcde", [large, *[small] * 4]) == []
    (line,) = mask_signs("abcd", [large, *[small] * 3])
    assert line.startswith("in 1 of 4 masks the lesion covers most of the image")
