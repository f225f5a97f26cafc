"""Metrics that come from counts, against numbers worked by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eus_ray.metrics import (
    COUNT_METRICS,
    counts,
    fixed_mask_score,
    fixed_masks,
    from_counts,
    patient_means,
    patient_weights,
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
    assert found.score == pytest.approx(float(score), abs=1e-12)
    assert (found.mask == mask).all()
    assert fixed_mask_score(masks, patients) == found.score


def test_patients_weigh_the_same_in_the_fixed_mask() -> None:
    """Left is the lesion of one patient with 9 images, right that of two with one each: the mean is 1/3 and 2/3."""
    masks = np.array([[[1, 0]]] * 9 + [[[0, 1]]] * 2, bool)
    (found,) = fixed_masks(masks, patient_weights(["a"] * 9 + ["b", "c"])[None])
    assert found.mean.tolist() == [[pytest.approx(1 / 3), pytest.approx(2 / 3)]]
    # Up to .30 both pixels are in, and every image has a DSC of 2/3; from .35 on the right one alone: 0, 1, 1.
    assert found.score == pytest.approx(2 / 3)
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
    assert (found.threshold, found.score) == (0.2, pytest.approx(0.85))  # nothing is right for 17 of 20


def test_each_set_of_images_has_its_own_fixed_mask() -> None:
    masks, patients = np.eye(4, dtype=bool)[:, None], np.array([0, 0, 1, 2])
    weights = np.stack([patient_weights(patients, patients != out) for out in range(3)])
    assert weights.tolist() == [[0, 0, 0.5, 0.5], [0.25, 0.25, 0, 0.5], [0.25, 0.25, 0.5, 0]]
    found = fixed_masks(masks, weights)
    assert [one.mean[0].tolist() for one in found] == weights.tolist()
    for one, weight in zip(found, weights, strict=True):
        (alone,) = fixed_masks(masks[weight > 0], weight[None, weight > 0])
        assert (alone.threshold, alone.score) == (one.threshold, one.score)
