"""Distances against numbers worked by hand, all point pairs, and scipy's distance transform."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from eus_ray.analysis.measures import distances as module
from eus_ray.analysis.measures.distances import check_spacing, contour, diagonal, directed_distances, distances

WAYS = ("products", "differences", "transform", "tree")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(module._COST_NS, request.param, 0.0)
    return request.param


def drawn(*rows: str) -> np.ndarray:
    return np.array([[char == "#" for char in row] for row in rows])


def contour_points(mask: np.ndarray) -> list[tuple[int, int]]:
    """By the definition: pixels of the mask with an edge-neighbour outside it or outside the image."""
    height, width = mask.shape
    points = []
    for row, column in zip(*np.nonzero(mask), strict=True):
        neighbours = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        if any(not (0 <= r < height and 0 <= c < width) or not mask[r, c] for r, c in neighbours):
            points.append((int(row), int(column)))
    return points


def reference(truth: np.ndarray, pred: np.ndarray, spacing: tuple[float, float]) -> dict[str, float]:
    """Equations 4 to 6 over all pairs of contour points of two masks that are not empty."""

    def nearest(here: list[tuple[int, int]], there: list[tuple[int, int]]) -> list[float]:
        return [min(math.hypot((a - c) * spacing[0], (b - d) * spacing[1]) for c, d in there) for a, b in here]

    edges = contour_points(truth), contour_points(pred)
    forth, back = nearest(*edges), nearest(*edges[::-1])
    means = np.mean(forth), np.mean(back)
    return {
        "hd": max(*forth, *back),
        "hd95": max(np.percentile(forth, 95), np.percentile(back, 95)),
        "hd95_pooled": np.percentile(forth + back, 95),
        "avd": max(means),
        "mad": sum(means) / 2,
        "assd": np.mean(forth + back),
        "avd_truth_to_pred": means[0],
        "avd_pred_to_truth": means[1],
    }


masks = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
spacings = st.tuples(*[st.floats(0.05, 20, allow_nan=False)] * 2) | st.floats(0.05, 20).map(lambda step: (step, step))


def test_the_contour_has_the_frame_and_the_rims_of_holes() -> None:
    mask = drawn("#####..", "#####..", "##.##.#", "#####..", "#####..")
    assert contour(mask).tolist() == drawn("#####..", "#.#.#..", "##.##.#", "#.#.#..", "#####..").tolist()


def test_two_pixels_two_millimetres_apart() -> None:
    truth, pred = drawn("#...", "...."), drawn("..#.", "....")
    assert distances(truth, pred, (5.0, 1.0)) == (2.0,) * 8


@pytest.mark.usefixtures("way")
def test_a_point_against_a_line() -> None:
    """From the point: 0. From the line: 0, 1, 2, 3, 4."""
    found = distances(drawn("#...."), drawn("#####"))
    assert found.hd == 4.0
    assert found.avd_truth_to_pred == 0.0
    assert found.avd_pred_to_truth == 2.0
    assert found.avd == 2.0
    assert found.mad == 1.0
    assert found.assd == pytest.approx(10 / 6)
    # h = .95 * 4 = 3.8: 3 + .8; pooled 0 0 1 2 3 4, h = 4.75: 3 + .75
    assert found.hd95 == pytest.approx(3.8)
    assert found.hd95_pooled == pytest.approx(3.75)


def test_mad_reads_the_comma_of_equation_6_as_a_plus() -> None:
    truth, pred = np.zeros((2, 9, 9), bool)
    truth[4, 4] = True
    pred[4, 7] = pred[1, 4] = pred[4, 0] = True  # 3, 3 and 4 away
    found = distances(truth, pred)
    assert found.avd_truth_to_pred == 3.0
    assert found.avd_pred_to_truth == pytest.approx(10 / 3)
    assert found.mad == pytest.approx((3 + 10 / 3) / 2)
    assert found.avd == pytest.approx(10 / 3)


def test_a_lesion_inside_another_is_measured_between_contours() -> None:
    truth, pred = np.zeros((2, 11, 11), bool)
    truth[1:10, 1:10] = True
    pred[4:7, 4:7] = True
    assert distances(truth, pred).hd == pytest.approx(math.hypot(3, 3))
    assert distances(truth, pred).avd_pred_to_truth == 3.0


@pytest.mark.parametrize(
    ("policy", "both", "one"),
    [
        ({}, 0.0, math.inf),
        ({"one_empty": "nan", "both_empty": "nan"}, math.nan, math.nan),
        ({"one_empty": "diagonal"}, 0.0, math.hypot(3 * 0.5, 4 * 2.0)),
    ],
)
def test_empty_masks(policy: dict[str, str], both: float, one: float) -> None:
    empty, point = np.zeros((3, 4), bool), np.eye(3, 4, dtype=bool)
    np.testing.assert_array_equal(np.array(distances(empty, empty, (0.5, 2.0), **policy)), np.full(8, both))
    for pair in ((empty, point), (point, empty)):
        np.testing.assert_array_equal(np.array(distances(*pair, (0.5, 2.0), **policy)), np.full(8, one))


def test_directed_lists_of_an_empty_mask() -> None:
    lists = directed_distances(np.zeros((2, 2), bool), np.ones((2, 2), bool))
    assert lists.truth_to_pred.tolist() == []
    assert lists.pred_to_truth.tolist() == [math.inf] * 4


@pytest.mark.parametrize("spacing", [(1, 0), (1, -1), (math.nan, 1), (1, math.inf), 1.0, (1, 1, 1)])
def test_spacing_must_be_two_positive_numbers(spacing: object) -> None:
    with pytest.raises(ValueError, match="two positive finite numbers"):
        check_spacing(spacing)


@settings(max_examples=150, deadline=None)
@given(pair=masks, spacing=spacings)
def test_equals_all_point_pairs(pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float]) -> None:
    truth, pred = pair
    if truth.any() and pred.any():
        expected = reference(truth, pred, spacing)
        assert distances(truth, pred, spacing)._asdict() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(pair=masks, spacing=spacings, scale=st.sampled_from([0.1, 3.0]))
def test_facts_that_always_hold(
    pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float], scale: float
) -> None:
    truth, pred = pair
    found = distances(truth, pred, spacing)
    swapped = distances(pred, truth, spacing)
    assert swapped[:6] == found[:6]
    assert swapped[6:] == found[:5:-1]
    assert found.hd >= found.hd95
    assert found.hd >= found.avd >= found.mad >= found.avd / 2
    assert min(found[6:]) <= found.assd <= found.avd
    assert distances(truth, pred, (scale * spacing[0], scale * spacing[1])) == pytest.approx(
        [scale * value for value in found], rel=1e-12
    )
    assert distances(truth[::-1], pred[::-1], spacing) == pytest.approx(found, rel=1e-12)
    assert distances(truth.T, pred.T, spacing[::-1]) == pytest.approx(found, rel=1e-12)
    if truth.any() and pred.any():
        assert found.hd < diagonal(truth.shape, spacing)
    if (truth == pred).all():
        assert set(found) == {0.0}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("height", "spacing"), [(300, (1.0, 1.0)), (2040, (1.0, 1.0)), (2100, (1.0, 1.0)), (90, (0.3, 1.1))]
)
def test_every_way_equals_scipys_transform_to_the_last_bit(height: int, spacing: tuple[float, float]) -> None:
    """Specks on long strips: below and above the size where a float32 transform is exact."""
    rng = np.random.default_rng(height)
    truth, pred = rng.random((2, height, 60)) < 0.01
    truth[0, 0] = pred[-1, -1] = True
    lists = directed_distances(truth, pred, spacing)
    edges = contour(truth), contour(pred)
    for values, here, there in zip(lists, edges, edges[::-1], strict=True):
        expected = np.sort(distance_transform_edt(~there, sampling=spacing)[here])
        np.testing.assert_allclose(values, expected, rtol=0 if spacing == (1.0, 1.0) else 1e-14)


@pytest.mark.parametrize("shape", [(181, 181), (182, 182), (2, 60_000)])
def test_all_pairs_are_exact_where_the_integers_grow_wider(shape: tuple[int, int]) -> None:
    """2 * 181**2 fits 16 bits, 2 * 182**2 does not, and 60000**2 not even 31."""
    truth, pred = np.zeros((2, *shape), bool)
    truth[0, 0] = pred[-1, -1] = pred[0, 5] = True
    far = math.sqrt((shape[0] - 1) ** 2 + (shape[1] - 1) ** 2)
    lists = directed_distances(truth, pred)
    assert lists.truth_to_pred.tolist() == [5.0]
    assert lists.pred_to_truth.tolist() == [5.0, far]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_transform_is_exact_up_to_its_limit(threads: int) -> None:
    """With one thread, as albumentations sets it, OpenCV has another way of its own."""
    before, side = cv2.getNumThreads(), 1448
    cv2.setNumThreads(threads)
    assert 2 * side**2 < module._MIN_SQUARED_DIAGONAL_FOR_FLOAT64 < 2 * (side + 1) ** 2
    everywhere, corner = np.ones((side, side), bool), np.zeros((side, side), bool)
    corner[0, 0] = True
    rows, columns = np.mgrid[:side, :side]
    squares = np.square(module._by_transform(everywhere, corner, 1.0))
    cv2.setNumThreads(before)
    assert np.array_equal(np.rint(squares).astype(int), (rows**2 + columns**2).ravel())


def test_far_apart_in_a_large_image() -> None:
    truth, pred = np.zeros((2, 3000, 3000), bool)
    truth[10:13, 20:24] = True
    pred[2990:2995, 2900:2950] = True
    found = distances(truth, pred)
    assert found.hd == pytest.approx(math.hypot(2994 - 12, 2949 - 23), rel=1e-15)
    assert round(found.hd**2) == 2982**2 + 2926**2
    nearest = [math.hypot(2990 - row, 2900 - column) for row, column in contour_points(truth[:20, :30])]
    assert found.avd_truth_to_pred == pytest.approx(np.mean(nearest))
    assert distances(truth, pred, (0.2, 0.1)).hd == pytest.approx(math.hypot(2982 * 0.2, 2926 * 0.1), rel=1e-15)
