"""Calibration of one image: scikit-learn's numbers, and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from eus_ray.analysis.measures.calibration import CALIBRATION, calibration, grown_box

TOP = 65535
EDGES = [k * 4369 for k in range(16)]


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    among=st.sampled_from([range(TOP + 1), EDGES, [0, 1, 32767, 32768, TOP]]),
    seed=st.integers(0, 2**16),
)
def test_scikit_learn_has_the_same_numbers(shape: tuple[int, int], share: float, among: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels, truth = rng.choice(among, shape).astype(np.uint16), rng.random(shape) < share
    found = calibration(levels, truth, levels >= 32768)
    box = grown_box(truth, levels >= 32768)
    for bins, brier, ece, region in zip(
        found.bins, (found.brier, found.brier_box), (found.ece, found.ece_box), (np.s_[:, :], box), strict=True
    ):
        label, p = truth[region].ravel(), levels[region].ravel() / TOP
        if not label.size:
            assert math.isnan(brier)
            assert math.isnan(ece)
            assert not bins.any()
            continue
        assert brier == pytest.approx(brier_score_loss(label, p, labels=[False, True]), abs=1e-14)
        filled = bins[:, 0] > 0
        assert bins[:, 0].sum() == label.size
        seen, said = bins[filled, 2] / bins[filled, 0], bins[filled, 1] / bins[filled, 0]
        # It needs both classes to know which is which, and it places p in rounded floats: compare away from the edges.
        if 0 < label.sum() < label.size and among is not EDGES:
            theirs = calibration_curve(label, p, n_bins=15)
            np.testing.assert_allclose([seen, said], theirs, atol=1e-12)
        assert ece == pytest.approx((bins[filled, 0] / label.size * np.abs(seen - said)).sum(), abs=1e-12)


def test_an_edge_lies_in_the_lower_bin_and_zero_in_the_first() -> None:
    levels = np.array([[0, 1, 4369, 4370, 14 * 4369, 14 * 4369 + 1, TOP]], np.uint16)
    empty = np.zeros(levels.shape, bool)
    bins = calibration(levels, empty, empty).bins[0]
    assert np.flatnonzero(bins[:, 0]).tolist() == [0, 1, 13, 14]
    assert bins[[0, 1, 13, 14], 0].tolist() == [3, 1, 1, 2]
    assert bins[0, 1] == 4370 / TOP


def test_three_pixels_by_hand() -> None:
    """P = 1, 1/5, 1/5 and one lesion among the latter: Brier (1 + .64 + .04) / 3, bins off by 1 and by 1 - .4."""
    levels = np.array([[TOP, TOP // 5, TOP // 5]], np.uint16)
    found = calibration(levels, np.array([[False, True, False]]), levels == TOP)
    assert found.brier == pytest.approx(1.68 / 3, abs=1e-15)
    assert found.ece == pytest.approx(1.6 / 3, abs=1e-15)
    assert found.bins[0, 2].tolist() == [2, 0.4, 1]  # 1/5 = 3/15 is the end of the third bin
    assert found.bins[0, 14].tolist() == [1, 1, 0]
    assert CALIBRATION == ("brier", "ece", "brier_box", "ece_box")


def test_sure_and_right_is_zero_and_sure_and_wrong_is_one() -> None:
    truth = np.eye(3, dtype=bool)
    right, wrong = (np.where(mask, TOP, 0).astype(np.uint16) for mask in (truth, ~truth))
    assert calibration(right, truth, truth)[1:] == (0, 0, 0, 0)
    assert calibration(wrong, truth, ~truth)[1:] == (1, 1, 1, 1)


def test_the_box_holds_both_masks_and_a_tenth_around_them() -> None:
    truth, pred = np.zeros((2, 100, 200), bool)
    truth[40:50, 20:40] = pred[45:60, 30:51] = True  # 20 rows from 40 on, 31 columns from 20 on
    assert grown_box(truth, pred) == (slice(38, 62), slice(16, 55))
    levels = np.zeros(truth.shape, np.uint16)
    found = calibration(levels, truth, pred)
    assert found.bins[1, 0].tolist() == [24 * 39, 0, 200]
    assert found.brier_box == 200 / (24 * 39)
    assert found.ece == 200 / 20_000
    assert grown_box(truth, ~truth) == (slice(0, 100), slice(0, 200))  # no farther than the image


@given(mask=hnp.arrays(bool, (7, 12)))
def test_no_box_is_smaller_than_its_masks(mask: np.ndarray) -> None:
    rows, columns = grown_box(mask, mask)
    assert mask[rows, columns].sum() == mask.sum()
    assert (rows.stop - rows.start > 0) == mask.any()


def test_nothing_to_box_is_nan_and_the_whole_image_is_judged() -> None:
    empty, levels = np.zeros((4, 5), bool), np.full((4, 5), 6553, np.uint16)
    found = calibration(levels, empty, empty)
    assert found.brier == pytest.approx((6553 / TOP) ** 2, rel=1e-15)
    assert found.ece == pytest.approx(6553 / TOP, rel=1e-15)
    assert math.isnan(found.brier_box)
    assert math.isnan(found.ece_box)
    assert not found.bins[1].any()


def test_millions_of_pixels_are_summed_without_rounding() -> None:
    levels = np.full((3000, 3000), TOP - 1, np.uint16)
    found = calibration(levels, np.ones(levels.shape, bool), np.ones(levels.shape, bool))
    assert found.brier == 1 / TOP**2
    assert found.ece == 1 / TOP
