"""Metrics that come from counts, against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eus_ray.metrics import COUNT_METRICS, counts, from_counts, patient_means, quantise


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
