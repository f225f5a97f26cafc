"""Masks from probabilities, and metrics from counts, against numbers worked by hand and slow references."""

from __future__ import annotations

import itertools
from collections import deque
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eus_ray.metrics import (
    COUNT_METRICS,
    agreement,
    counts,
    fixed_mask_score,
    fixed_masks,
    from_counts,
    largest_piece,
    patient_means,
    patient_weights,
    predicted_mask,
    quantise,
)


def mask(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in text.split()])


def test_counts_of_a_shifted_square() -> None:
    truth, predicted = mask("##.. ##.. .... ...."), mask(".##. .##. .... ....")
    assert counts(predicted[None], truth[None]).tolist() == [[2, 2, 2, 10]]


def test_metrics_of_a_shifted_square() -> None:
    values = {name: float(from_counts(name, [2, 2, 2, 10])) for name in COUNT_METRICS}
    assert values == pytest.approx({"dsc": 0.5, "iou": 1 / 3, "sen": 0.5, "sp": 10 / 12, "pc": 0.5, "acc": 0.75})


@pytest.mark.parametrize(
    ("tp_fp_fn_tn", "expected"),
    [
        ([0, 0, 0, 9], {"dsc": 1, "iou": 1, "sen": 1, "sp": 1, "pc": 1, "acc": 1}),  # both empty
        ([0, 0, 4, 5], {"dsc": 0, "iou": 0, "sen": 0, "sp": 1, "pc": 0, "acc": 5 / 9}),  # only the prediction is
        ([0, 4, 0, 5], {"dsc": 0, "iou": 0, "sen": 0, "sp": 5 / 9, "pc": 0, "acc": 5 / 9}),  # only the truth is
        ([9, 0, 0, 0], {"dsc": 1, "iou": 1, "sen": 1, "sp": 1, "pc": 1, "acc": 1}),  # both full
        ([5, 0, 4, 0], {"dsc": 10 / 14, "iou": 5 / 9, "sen": 5 / 9, "sp": 0, "pc": 1, "acc": 5 / 9}),  # truth full
    ],
)
def test_undefined_ratios_have_values(tp_fp_fn_tn: list[int], expected: dict[str, float]) -> None:
    assert {name: float(from_counts(name, tp_fp_fn_tn)) for name in COUNT_METRICS} == pytest.approx(expected)


def test_the_strict_policy_says_nan_where_a_ratio_is_undefined() -> None:
    undefined = {name for name in COUNT_METRICS if np.isnan(from_counts(name, [0, 0, 4, 5], policy="strict"))}
    assert undefined == {"pc"}
    undefined = {name for name in COUNT_METRICS if np.isnan(from_counts(name, [0, 0, 0, 9], policy="strict"))}
    assert undefined == {"dsc", "iou", "sen", "pc"}


def test_counts_of_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        counts(np.zeros((1, 3, 3), bool), np.zeros((1, 3, 4), bool))


def test_stored_probabilities_round_half_to_even() -> None:
    steps = np.array([0.0, 0.5 / 65535, 1.5 / 65535, 0.5, 1.0])
    assert quantise(steps).tolist() == [0, 0, 2, 32768, 65535]


def test_patient_means() -> None:
    means = patient_means(np.array([1.0, 3.0, 5.0]), ["b", "a", "b"])
    assert means.tolist() == [3.0, 3.0]
    assert patient_means(np.array([]), []).tolist() == []


# ---- one mask for all images --------------------------------------------------------------------


def exact_fixed_mask(masks: np.ndarray, patients: list[int]) -> tuple[float, Fraction, np.ndarray]:
    """Return threshold, score and mask by the definition, in fractions, over 19 cuts."""
    images = {one: [place for place, patient in enumerate(patients) if patient == one] for one in patients}
    mean = np.full(masks.shape[1:], Fraction(0))
    for mine in images.values():
        mean = mean + sum(masks[place].astype(int) for place in mine) * Fraction(1, len(mine) * len(images))
    best = (0.0, Fraction(-1), mean)
    for step in range(1, 20):
        cut = mean >= Fraction(step, 20)
        score = Fraction(0)
        for mine in images.values():
            for place in mine:
                both = int(cut.sum()) + int(masks[place].sum())
                dsc = Fraction(2 * int((cut & masks[place]).sum()), both) if both else Fraction(1)
                score += dsc / (len(mine) * len(images))
        if score > best[1]:
            best = (step / 20, score, cut)
    return best


@settings(max_examples=60, deadline=None)
@given(
    masks=hnp.arrays(bool, st.tuples(st.integers(1, 24), st.just(3), st.just(4))),
    seed=st.integers(0, 2**16),
    num_patients=st.integers(1, 20),
)
def test_the_fixed_mask_is_the_best_of_19_cuts_of_the_patients_mean(
    masks: np.ndarray, seed: int, num_patients: int
) -> None:
    patients = np.random.default_rng(seed).integers(0, num_patients, len(masks)).tolist()
    threshold, score, mask = exact_fixed_mask(masks, patients)
    (found,) = fixed_masks(masks, patient_weights(patients)[None])
    assert found.threshold == threshold
    assert found.training_score == pytest.approx(float(score), abs=1e-12)
    assert (found.mask == mask).all()
    assert (found.mean == np.round(found.mean, 12)).all()  # equal means are equal, whatever they are the sum of
    assert fixed_mask_score(masks, patients) == found.training_score


def test_patients_weigh_the_same_in_the_fixed_mask() -> None:
    """Left is the lesion of one patient with 9 images, right that of two with one each: the mean is 1/3 and 2/3."""
    masks = np.array([[[1, 0]]] * 9 + [[[0, 1]]] * 2, bool)
    (found,) = fixed_masks(masks, patient_weights(["a"] * 9 + ["b", "c"])[None])
    assert found.mean[0].tolist() == pytest.approx([1 / 3, 2 / 3])
    # Up to .30 both pixels are in, and every image has a DSC of 2/3; from .35 on the right one alone: 0, 1, 1.
    assert found.training_score == pytest.approx(2 / 3)
    assert found.threshold == 0.05
    assert found.mask.all()


def test_a_mean_that_is_a_threshold_is_in_whatever_its_rounding() -> None:
    """Of 20 patients 3 have a lesion, of three images each: 3/20 is a sum of nine."""
    masks = np.zeros((60, 1, 1), bool)
    masks[:9] = True
    weights = patient_weights(np.arange(60) // 3)
    (found,) = fixed_masks(masks, weights[None])
    assert found._replace(threshold=0.15).mask.all()
    assert not found._replace(threshold=0.2).mask.any()
    assert (found.threshold, found.training_score) == (0.2, pytest.approx(0.85))  # nothing is right for 17 of 20


def test_each_set_of_images_has_its_own_fixed_mask() -> None:
    masks, patients = np.eye(4, dtype=bool)[:, None], np.array([0, 0, 1, 2])
    weights = np.stack([patient_weights(patients, patients != out) for out in range(3)])
    assert weights.tolist() == [[0, 0, 0.5, 0.5], [0.25, 0.25, 0, 0.5], [0.25, 0.25, 0.5, 0]]
    found = fixed_masks(masks, weights)
    assert [one.mean[0].tolist() for one in found] == weights.tolist()
    for one, weight in zip(found, weights, strict=True):
        (alone,) = fixed_masks(masks[weight > 0], weight[None, weight > 0])
        assert (alone.threshold, alone.training_score) == (one.threshold, one.training_score)


# ---- masks from probabilities -----------------------------------------------------------------------

LEVELS = hnp.arrays(
    np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.sampled_from([0, 20000, 65535])
)
EDGES = ((-1, 0), (0, -1), (0, 1), (1, 0))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def pieces(mask: np.ndarray, steps: tuple[tuple[int, int], ...]) -> list[set[tuple[int, int]]]:
    """The connected pieces, by a flood from each pixel in the order of the rows."""
    left, found = {tuple(map(int, place)) for place in np.argwhere(mask)}, []
    for start in sorted(left):
        piece, queue = set(), deque([start])
        while queue:
            row, column = queue.popleft()
            if (row, column) in left:
                left.remove((row, column))
                piece.add((row, column))
                queue.extend((row + down, column + right) for down, right in steps)
        if piece:
            found.append(piece)
    return found


def drawn(shape: tuple[int, ...], pixels: set[tuple[int, int]]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


def test_by_default_a_mask_is_where_the_level_is_32768_or_more() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(predicted_mask(levels), levels >= 32768)


@given(st.floats(1e-5, 1, exclude_max=True), st.floats(0, 1))
def test_a_probability_is_in_if_it_reaches_the_threshold_to_within_rounding(threshold: float, p: float) -> None:
    is_in = bool(predicted_mask(quantise(np.array([[p]])), threshold)[0, 0])
    assert is_in or p < threshold
    assert not is_in or p >= threshold - 1 / 65535 - 1e-12


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3, 0.35, 0.5, 0.7, 0.95])
def test_a_probability_equal_to_the_threshold_is_in(threshold: float) -> None:
    assert predicted_mask(quantise(np.full((1, 1), threshold, np.float32)), threshold).all()
    level = quantise(np.full((1, 1), threshold))
    assert predicted_mask(level, threshold).all()
    assert not predicted_mask(level - 1, threshold).any()


def test_what_is_stored_as_no_probability_is_in_no_mask() -> None:
    assert predicted_mask(np.array([[0, 1]], np.uint16), threshold=1e-9).tolist() == [[False, True]]


def test_the_largest_piece_and_then_its_holes() -> None:
    """A ring of 8 pixels around a hole, a smaller ring of corners around another, and a bay that the border opens."""
    levels = 65535 * mask("###.#. #.##.# ###.#. ...... ##.... .#....").astype(np.uint16)
    assert predicted_mask(levels, keep="largest").sum() == 12, "corners join the rings"
    levels[:, 3] = 0
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"keep": "largest"}, "###... #.#... ###... ...... ...... ......"),
        ({"keep": "largest", "fill_holes": True}, "###... ###... ###... ...... ...... ......"),
        ({"fill_holes": True}, "###.#. ###..# ###.#. ...... ##.... .#...."),
    )
    for how, expected in cases:
        np.testing.assert_array_equal(predicted_mask(levels, **how), mask(expected))


@pytest.mark.parametrize(
    ("given_mask", "kept"),
    [
        ("#..#. .#..# .....", "#.... .#... ....."),  # corners join; of two with two pixels, the first
        (".#..# #...# .....", ".#... #.... ....."),  # the first pixel in the order of the rows, not of the columns
        ("...# .##. ....", "...# .##. ...."),
        (".... ....", ".... ...."),
        ("#.#. ..#.", "..#. ..#."),
    ],
)
def test_the_largest_piece_by_hand(given_mask: str, kept: str) -> None:
    np.testing.assert_array_equal(largest_piece(mask(given_mask)), mask(kept))


@given(LEVELS, st.sampled_from([0.2, 0.5]), st.sampled_from(["all", "largest"]), st.booleans())
def test_masks_are_those_of_a_slow_reference(levels: np.ndarray, threshold: float, keep: str, fill: bool) -> None:
    expected = levels / 65535 >= threshold
    if keep == "largest" and expected.any():
        expected = drawn(levels.shape, max(pieces(expected, EDGES + CORNERS), key=len))
    if fill:
        rows, columns = levels.shape
        for hole in pieces(~expected, EDGES):
            if all(0 < row < rows - 1 and 0 < column < columns - 1 for row, column in hole):
                expected = expected | drawn(levels.shape, hole)
    np.testing.assert_array_equal(predicted_mask(levels, threshold, keep, fill), expected)


# ---- agreement of an ensemble -----------------------------------------------------------------------


def test_agreement_by_hand() -> None:
    """Pairs: 2 of 2 + 4 pixels in common (2/3), both empty (1), and an empty one with another (0)."""
    members = np.stack([mask("##.. ...."), mask("##.. ##.."), mask(".... ....")])
    assert agreement(members) == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert agreement(members[[2, 2, 2]]) == 1
    assert agreement(members[[0, 0]]) == 1
    assert np.isnan(agreement(members[:1]))


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_agreement_is_the_mean_over_all_pairs(masks: np.ndarray) -> None:
    pairs = [
        1.0 if not (a.any() or b.any()) else 2 * (a & b).sum() / (a.sum() + b.sum())
        for a, b in itertools.combinations(masks, 2)
    ]
    expected = np.mean(pairs) if pairs else np.nan
    assert agreement(masks) == pytest.approx(expected, nan_ok=True)
    assert agreement(masks[::-1]) == pytest.approx(expected, nan_ok=True)
