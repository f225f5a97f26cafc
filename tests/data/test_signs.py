"""Signs of odd data, worked by hand on pictures of 4 by 5 pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from eus_ray.data.signs import (
    MaskFacts,
    SmallMasks,
    all_have_lesions,
    fixed_mask_signs,
    is_its_mask,
    mask_facts,
    mask_signs,
    repeated_masks,
    resembles_its_mask,
    small_mask,
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
    assert mask_facts(FULL) == MaskFacts(1.0, True, b"", has_borders=True)
    assert mask_facts(1 - MASK) == MaskFacts(0.8, True, b"", has_borders=True)
    corners = EMPTY.copy()
    corners[[0, 0, -1, -1], [0, -1, 0, -1]] = 1
    assert mask_facts(corners) == MaskFacts(0.2, True, b"", has_borders=True)
    corners[0, 0] = 0
    assert mask_facts(corners) == MaskFacts(0.15, False, b"", has_borders=True)
    assert mask_facts(np.ones((1, 1), np.uint8)) == MaskFacts(1.0, True, b"", has_borders=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_an_outline_has_a_hole_larger_than_itself(dtype: npt.DTypeLike) -> None:
    def frame(side: int, at: tuple[int, int] = (3, 2)) -> npt.NDArray[np.uint8]:
        """Return a square's contour of 4 (side - 1) pixels around (side - 2)² others."""
        mask = np.zeros((20, 24), np.uint8)
        mask[at[0] : at[0] + side, at[1] : at[1] + side] = 1
        mask[at[0] + 1 : at[0] + side - 1, at[1] + 1 : at[1] + side - 1] = 0
        return mask

    assert not mask_facts(frame(6).astype(dtype)).is_outline  # 20 around 16
    assert mask_facts(frame(7).astype(dtype)).is_outline  # 24 around 25
    open_ = frame(8)
    open_[3, 5] = 0
    assert not mask_facts(open_.astype(dtype)).is_outline  # the inside is the outside
    assert mask_facts(frame(8, (12, 16)).astype(dtype)).is_outline  # at the picture's border too
    diamond = np.abs(np.mgrid[-9:10, -9:10]).sum(axis=0) == 8  # closed only over corners
    assert mask_facts(diamond.astype(dtype)).is_outline
    many = np.tile(frame(4)[3:7, 2:6], (4, 4))
    assert not mask_facts(many.astype(dtype)).is_outline  # 16 holes of 4 in 192 pixels
    assert not mask_facts(np.eye(9, dtype=dtype)).is_outline


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


def test_outlines_are_counted() -> None:
    outline = small()._replace(is_outline=True)
    assert mask_signs(["a", "b", "c"], [small(), outline, outline], "truths") == [
        "in 2 of 3 truths a hole is larger than the rest of the mask, such as b: see that they are filled areas and "
        "not outlines"
    ]


def test_lesions_that_fill_their_pictures_are_told_if_most_do() -> None:
    filling, empty = small()._replace(has_borders=True), MaskFacts(0.0, False, b"")
    line = (
        "in 2 of 5 masks the nodule touches all four borders of the picture, such as b: see that pictures are not cut "
        "out around it, which tells a network where it is"
    )
    assert mask_signs(list("abcde"), [small(), filling, filling, small(), empty], target="nodule") == [line]
    assert mask_signs(list("abcde"), [small(), filling, filling, small(), small()]) == []
    swapped = MaskFacts(0.8, True, b"", has_borders=True)
    assert not any("borders" in line for line in mask_signs(["a", "b"], [swapped, swapped]))
    large = MaskFacts(0.78, False, b"", has_borders=True)  # an ellipse and its bounding box: not swapped
    assert [line for line in mask_signs(["a", "b"], [large, large]) if "borders" not in line] == []


def test_a_set_in_which_every_image_has_a_lesion_is_told() -> None:
    (line,) = all_have_lesions([0.1, 0.2], "fetal head")
    assert line.startswith("no image is without the fetal head: false alarms cannot be measured")
    assert all_have_lesions([0.1, 0.0]) == []
    assert all_have_lesions([]) == []


def _squares(rows: list[int], patients: int) -> tuple[SmallMasks, list[str]]:
    """Return squares of 32 by 32 pixels of a 64 by 64 picture, one per row that they begin at."""
    masks = []
    for row in rows:
        mask = np.zeros((64, 64), np.uint8)
        mask[row : row + 32, 16:48] = 1
        masks.append(small_mask(mask))
    return SmallMasks(masks), [f"p{place % patients}" for place in range(len(rows))]


def test_one_mask_that_fits_all_is_told_with_its_score() -> None:
    # Half of the squares begin 8 rows below the others: 24 of 32 rows are common. The common rows alone have a DSC of
    # 2 · 24 / (24 + 32) = 0.857 with each; all 40 rows have 2 · 32 / (40 + 32) = 0.889, and so the mask is theirs.
    masks, patients = _squares([8, 16] * 3, 6)
    (line,) = fixed_mask_signs(masks, patients, "nodule")
    assert line.startswith(
        "one fixed mask, which looks at no image, has a DSC of 0.89 on these masks, because the nodule"
    )
    far, _ = _squares([0, 32] * 3, 6)  # all 64 rows have 2 · 32 / (64 + 32) = 0.667
    assert fixed_mask_signs(far, patients) == []


def test_few_patients_and_empty_masks_are_no_sign_of_a_fixed_lesion() -> None:
    assert fixed_mask_signs(*_squares([8] * 8, 4)) == []
    assert len(fixed_mask_signs(*_squares([8] * 8, 5))) == 1
    assert fixed_mask_signs(SmallMasks([small_mask(EMPTY)] * 6), list("abcdef")) == []


def test_masks_are_compared_on_a_common_grid() -> None:
    large = np.zeros((128, 256), np.uint8)
    large[32:96, 64:128] = 1
    (found,) = (SmallMasks([small_mask(large)])[0],)
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:32] = True
    assert np.array_equal(found, expected)
