"""All metrics of an image: counts worked by hand, policies for empty masks, AUC against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from eus_ray.analysis.measures.calibration import CALIBRATION
from eus_ray.analysis.measures.image_metrics import METRICS, OVERLAPS, as_masks, auc, image_metrics, num_components

EMPTY, FULL = np.zeros((3, 4), bool), np.ones((3, 4), bool)
SOME = np.eye(3, 4, dtype=bool)


def test_two_overlapping_squares() -> None:
    """Truth 4 x 4, prediction the same moved by 2 columns, on 8 x 10 pixels: 8 shared."""
    truth, pred = np.zeros((2, 8, 10), np.uint8)
    truth[2:6, 2:6] = pred[2:6, 4:8] = 1
    found = image_metrics(truth, pred)
    assert tuple(found) == METRICS
    assert [found[name] for name in ("tp", "fp", "fn", "tn")] == [8, 8, 8, 56]
    assert found["dsc"] == 0.5
    assert found["iou"] == pytest.approx(1 / 3)
    assert found["acc"] == 0.8
    assert found["sen"] == found["pc"] == 0.5
    assert found["sp"] == 56 / 64
    assert found["hd"] == 2.0
    assert not found["missed"]
    assert not found["false_alarm"]
    assert found["components"] == 1
    assert not found["empty"]
    assert found["hd_largest"] == 2.0
    assert all(math.isnan(found[name]) for name in ("auc", *CALIBRATION))
    # Contours of 12 pixels. The truth's left column is 2 from the prediction, the next one 1 but for its inner pixels,
    # which are no contour; the other 4 lie on it. So 8 of each list are within 1, and all within 2.
    assert found["nsd"] == 1
    assert image_metrics(truth, pred, tolerance=1)["nsd"] == 16 / 24
    assert image_metrics(truth, pred, tolerance=0)["nsd"] == 8 / 24


@pytest.mark.parametrize(
    ("truth", "pred", "defined", "undefined"),
    [
        (EMPTY, EMPTY, {"dsc": 1, "iou": 1, "sen": 1, "pc": 1, "sp": 1, "acc": 1}, {"dsc", "iou", "sen", "pc"}),
        (SOME, EMPTY, {"dsc": 0, "iou": 0, "sen": 0, "pc": 0, "sp": 1, "acc": 0.75}, {"pc"}),
        (EMPTY, SOME, {"dsc": 0, "iou": 0, "sen": 0, "pc": 0, "sp": 0.75, "acc": 0.75}, {"sen"}),
        (FULL, FULL, {"dsc": 1, "iou": 1, "sen": 1, "pc": 1, "sp": 1, "acc": 1}, {"sp"}),
        (FULL, SOME, {"dsc": 0.4, "iou": 0.25, "sen": 0.25, "pc": 1, "sp": 0, "acc": 0.25}, {"sp"}),
    ],
)
def test_empty_and_full_masks(
    truth: np.ndarray, pred: np.ndarray, defined: dict[str, float], undefined: set[str]
) -> None:
    found = image_metrics(truth, pred)
    assert {name: found[name] for name in OVERLAPS} == pytest.approx(defined)
    strict = image_metrics(truth, pred, overlap="strict")
    assert {name for name in OVERLAPS if math.isnan(strict[name])} == undefined
    assert all(strict[name] == found[name] for name in OVERLAPS if name not in undefined)


def test_missed_and_false_alarm_are_not_mere_bad_overlap() -> None:
    apart = np.zeros((3, 4), bool)
    apart[2, 0] = True
    found = image_metrics([SOME, EMPTY, SOME, EMPTY], [EMPTY, SOME, apart, EMPTY])
    assert found["missed"].tolist() == [True, False, True, False]  # the third is predicted beside the lesion
    assert found["empty"].tolist() == [True, False, False, True]
    assert found["false_alarm"].tolist() == [False, True, False, False]
    assert found["nsd"].tolist()[:2] == [0, 0]
    assert found["nsd"][3] == 1
    assert image_metrics(SOME, np.roll(SOME, 1, axis=1))["missed"]
    assert not image_metrics(SOME, FULL)["missed"]
    assert found["hd"].tolist()[:2] == [math.inf, math.inf]
    assert found["hd"][3] == 0


def test_a_stack_is_its_images_each_with_its_spacing() -> None:
    rng = np.random.default_rng(0)
    truth, pred = rng.random((2, 5, 20, 30)) < 0.3
    scores = rng.random((5, 20, 30))
    spacing = rng.uniform(0.1, 2, (5, 2))
    together = image_metrics(truth, pred, scores=scores, spacing=spacing)
    for index in range(5):
        alone = image_metrics(truth[index], pred[index], scores=scores[index], spacing=spacing[index])
        np.testing.assert_equal({name: values[index] for name, values in together.items()}, alone)
    assert together["tp"].dtype == np.int64
    assert together["missed"].dtype == bool
    nothing = image_metrics(truth[:0], pred[:0])
    assert all(values.shape == (0,) for values in nothing.values())


def test_diagonal_is_that_of_the_whole_image() -> None:
    found = image_metrics(SOME, EMPTY, spacing=(2.0, 0.5), one_empty="diagonal")
    assert found["hd"] == found["mad"] == math.hypot(6.0, 2.0)


def test_a_speck_takes_hd_and_the_largest_piece_alone_does_not() -> None:
    """Truth and prediction are one square; the prediction has specks 9 columns beside it and 4 rows below."""
    truth = np.zeros((12, 20), bool)
    truth[1:5, 1:5] = True
    pred = truth.copy()
    pred[1, 13] = pred[8, 2] = True
    found = image_metrics([truth, truth, truth * False], [pred, truth, pred], spacing=(2.0, 1.0))
    assert found["components"].tolist() == [3, 1, 3]
    assert found["hd"].tolist() == [9, 0, math.inf]
    assert found["hd_largest"].tolist() == [0, 0, math.inf]
    assert math.isnan(image_metrics(truth * False, pred, one_empty="nan")["hd_largest"])
    # The other way about, the specks belong to the truth, and no piece of the prediction comes near them.
    assert image_metrics(pred, truth)["hd_largest"] == 9


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    truth = np.zeros((6, 9), bool)
    truth[0, 0] = True
    torn, joined = truth.copy(), truth.copy()
    torn[3:5, 5:8] = joined[1:3, 1:4] = True
    assert image_metrics(truth, torn)["hd_largest"] == math.hypot(4, 7)  # the larger piece is the wrong one
    assert image_metrics(truth, joined)["hd_largest"] == math.hypot(2, 3)


@settings(max_examples=80, deadline=None)
@given(
    pair=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
        lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
    ),
    spacing=st.sampled_from([(1.0, 1.0), (0.1, 0.1), (0.5, 1.7)]),
    steps=st.integers(0, 12),
)
def test_nsd_and_hd_largest_by_brute_force(
    pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float], steps: int
) -> None:
    """NSD over all pairs of contour points; tolerances are whole steps of rows, so that many distances equal them."""
    truth, pred = pair
    found = image_metrics(truth, pred, spacing=spacing, tolerance=steps * spacing[0])
    edges = [points * spacing for points in map(contour_points, pair)]
    if not all(map(len, edges)):
        assert found["nsd"] == (not any(map(len, edges)))
        assert found["hd_largest"] == found["hd"]
        return
    apart = np.hypot(*(edges[0][:, None] - edges[1]).transpose(2, 0, 1))
    near = np.concatenate([apart.min(axis=1), apart.min(axis=0)]) <= steps * spacing[0] + 1e-9
    assert found["nsd"] == pytest.approx(near.mean())
    pieces, number = ndimage.label(pred, np.ones((3, 3)))
    areas = ndimage.sum_labels(pred, pieces, range(1, number + 1))
    largest = [
        image_metrics(truth, pieces == 1 + place, spacing=spacing)["hd"]
        for place in np.flatnonzero(areas == areas.max())
    ]
    assert found["hd_largest"] == largest[0]


def contour_points(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def test_calibration_comes_with_the_levels() -> None:
    truth, pred = np.array([[True, False, False]]), np.array([[True, True, False]])
    levels = np.array([[65535, 65535, 0]], np.uint16)
    found = image_metrics([truth] * 2, [pred] * 2, levels=np.stack([levels, levels]))
    assert found["brier"].tolist() == [pytest.approx(1 / 3)] * 2
    assert image_metrics(truth, pred, levels=levels)["ece"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="levels and truth differ in shape"):
        image_metrics(truth, pred, levels=levels[:, :2])


def test_components_touch_at_corners() -> None:
    assert num_components(np.eye(4, dtype=bool)) == 1
    assert num_components(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1]], bool)) == 4
    assert num_components(EMPTY) == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(4, bool), r"\(4,\)"),
        (np.zeros((2, 0), bool), r"H, W >= 1"),
        (np.zeros((2, 2, 2, 2), bool), "must be"),
        (np.full((2, 2), 255, np.uint8), "but has 255"),
        (np.full((2, 2), -1), "but has -1"),
        (np.full((2, 2), 0.7), "binarise"),
        (np.full((2, 2), 1.0), "binarise"),
    ],
)
def test_what_is_no_mask_is_refused(bad: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_masks(bad)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"truth and pred differ in shape: \(3, 4\) and \(4, 3\)"):
        image_metrics(SOME, SOME.T)
    with pytest.raises(ValueError, match="scores and truth differ"):
        image_metrics(SOME, SOME, scores=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="1 rows for 2 images"):
        image_metrics([SOME, SOME], [SOME, SOME], spacing=[(1, 1)])
    with pytest.raises(ValueError, match="spacing"):
        image_metrics(SOME, SOME, spacing=(0, 1))


# ---- AUC ----------------------------------------------------------------------------------------


def test_auc_by_hand() -> None:
    """Positives 3, 2; negatives 2, 1: three wins and one tie of four."""
    assert auc([3, 2, 2, 1], [1, 1, 0, 0]) == 0.875


@settings(max_examples=80, deadline=None)
@given(
    labels=hnp.arrays(bool, st.integers(2, 200)),
    kind=st.sampled_from(["uint8", "uint16", "int32", "float16", "float32", "float64", "bool"]),
    levels=st.sampled_from([2, 7, 60000]),
    seed=st.integers(0, 2**16),
)
def test_auc_equals_scikit_learn(labels: np.ndarray, kind: str, levels: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, labels.size).astype(kind)
    found = auc(scores, labels)
    if labels.all() or not labels.any():
        assert math.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(labels, scores.astype(np.float64)), abs=1e-12)


def test_auc_sees_what_rounding_would_hide() -> None:
    truth = np.array([[True, False]])
    assert auc(np.array([[32769, 32768]], np.uint16), truth) == 1.0
    assert auc(np.array([[0.5 + 1e-16 * 4, 0.5]]), truth) == 1.0
    assert auc(np.array([[2**60 + 1, 2**60]]), truth) == 1.0


def test_auc_refuses_nan_and_other_shapes() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auc([0.1, math.nan], [True, False])
    with pytest.raises(ValueError, match="differ in shape"):
        auc([0.1, 0.2], [[True, False]])
    with pytest.raises(ValueError, match="real"):
        auc([1j, 2j], [True, False])
    assert auc([-math.inf, math.inf, 0.0], [False, True, False]) == 1.0
