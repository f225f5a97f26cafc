"""Every metric against other libraries, brute force, and cases worked by hand; facts that hold for all masks."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial import cKDTree
from skimage.metrics import hausdorff_distance

from eus_ray.analysis.measures.distances import Directed, directed_distances
from eus_ray.analysis.measures.image_metrics import DISTANCES, OVERLAPS, auc, image_metrics

SPACINGS = [(1.0, 1.0), (0.25, 0.25), (0.3, 1.1), (7.0, 0.05)]


def blobs(seed: int, shape: tuple[int, int], grain: float, share: float = 0.3) -> np.ndarray:
    """Wavy regions some `grain` pixels wide, with holes, at the frame too, that cover `share` of the image."""
    coarse = np.random.default_rng(seed).normal(size=[math.ceil(side / grain) + 1 for side in shape])
    noise = cv2.resize(coarse.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise > np.quantile(noise, 1 - share)


def scipy_contour(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(mask)


def scipy_lists(truth: np.ndarray, pred: np.ndarray, spacing: tuple[float, float]) -> Directed:
    """The directed lists by scipy's exact Euclidean distance transform of the whole image."""
    here, there = scipy_contour(truth), scipy_contour(pred)
    return Directed(
        np.sort(distance_transform_edt(~there, sampling=spacing)[here]),
        np.sort(distance_transform_edt(~here, sampling=spacing)[there]),
    )


def from_lists(lists: Directed) -> dict[str, float]:
    forth, back = lists
    means = forth.mean(), back.mean()
    return {
        "hd": max(forth.max(), back.max()),
        "hd95": max(np.percentile(forth, 95), np.percentile(back, 95)),
        "hd95_pooled": np.percentile(np.concatenate(lists), 95),
        "avd": max(means),
        "mad": sum(means) / 2,
        "assd": np.concatenate(lists).mean(),
        "avd_truth_to_pred": means[0],
        "avd_pred_to_truth": means[1],
    }


def row(*columns: int, width: int = 120) -> np.ndarray:
    mask = np.zeros((1, width), bool)
    mask[0, list(columns)] = True
    return mask


# ---- by hand ------------------------------------------------------------------------------------


def hand(truth: np.ndarray, pred: np.ndarray, **expected: float) -> None:
    found = image_metrics(truth, pred)
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-15)


def test_two_pixels_three_rows_and_four_columns_apart() -> None:
    truth, pred = np.zeros((2, 6, 6), bool)
    truth[1, 1] = pred[4, 5] = True
    hand(truth, pred, **dict.fromkeys(DISTANCES, 5.0), tp=0, fp=1, fn=1, tn=34, dsc=0, iou=0, sp=34 / 35, acc=34 / 36)
    spaced = image_metrics(truth, pred, spacing=(2.0, 0.5))
    assert {spaced[name] for name in DISTANCES} == {math.hypot(6, 2)}


def test_two_parallel_lines() -> None:
    truth, pred = np.zeros((2, 9, 12), bool)
    truth[2, 1:11] = pred[5, 1:11] = True
    hand(truth, pred, **dict.fromkeys(DISTANCES, 3.0))


def test_the_whole_frame_and_its_centre() -> None:
    """Truth: 5 x 5, whose contour is the ring of 16 pixels: 4 are 2, 8 are sqrt 5 and 4 are sqrt 8 from the centre."""
    truth, pred = np.ones((5, 5), bool), np.zeros((5, 5), bool)
    pred[2, 2] = True
    forth = (4 * 2 + 8 * math.sqrt(5) + 4 * math.sqrt(8)) / 16
    hand(truth, pred, hd=math.sqrt(8), hd95=math.sqrt(8), hd95_pooled=math.sqrt(8), avd=forth, mad=(forth + 2) / 2,
         assd=(16 * forth + 2) / 17, avd_truth_to_pred=forth, avd_pred_to_truth=2, sen=1 / 25, sp=0, pc=1)  # fmt: skip


def test_a_hole_has_a_rim() -> None:
    """7 x 7 pixels with and without a hole of one: its 4 neighbours are contour, 2 from the outer contour of 24."""
    truth, pred = np.zeros((2, 9, 9), bool)
    truth[1:8, 1:8] = pred[1:8, 1:8] = True
    truth[4, 4] = False
    hand(truth, pred, hd=2, hd95=2, hd95_pooled=2, avd=8 / 28, mad=4 / 28, assd=8 / 52, avd_truth_to_pred=8 / 28,
         avd_pred_to_truth=0, tp=48, fp=1, fn=0, tn=32, dsc=96 / 97, iou=48 / 49)  # fmt: skip


def test_the_two_definitions_of_hd95_differ() -> None:
    """Truth to prediction: nine times 0, once 100, at h = 8.55; both lists: 18 times 0, once 100, at h = 17.1."""
    truth, pred = row(*range(9), 108), row(*range(9))
    hand(truth, pred, hd=100, hd95=55, hd95_pooled=10, avd=10, mad=5, assd=100 / 19)


@pytest.mark.parametrize("away", [1, 20, 39, 58, 60, 94, 100])
def test_percentiles_at_and_between_values(away: int) -> None:
    """A line of n pixels from its first on has the distances 0 .. n - 1, whose 95th percentile is .95 (n - 1)."""
    hand(row(0), row(*range(away + 1)), hd=away, hd95=0.95 * away, avd_pred_to_truth=away / 2)


# ---- other libraries ----------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("grain", [1, 6, 25])
def test_all_distances_equal_scipys_transform(spacing: tuple[float, float], grain: float) -> None:
    truth, pred = blobs(1, (200, 150), grain), blobs(2, (200, 150), grain, share=0.1)
    found = image_metrics(truth, pred, spacing=spacing)
    expected = from_lists(scipy_lists(truth, pred, spacing))
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_hd_and_avd_equal_scikit_image(seed: int) -> None:
    """Its `modified` distance (Dubuisson and Jain 1994) is the larger directed mean."""
    truth, pred = blobs(seed, (90, 120), 12, 0.2), blobs(seed + 100, (90, 120), 12, 0.2)
    edges = scipy_contour(truth), scipy_contour(pred)
    found = image_metrics(truth, pred)
    assert found["hd"] == hausdorff_distance(*edges)
    assert found["avd"] == pytest.approx(hausdorff_distance(*edges, method="modified"), rel=1e-13)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_long_contours_on_3000_squared_pixels(spacing: tuple[float, float]) -> None:
    """Tens of thousands of contour points: each one's nearest by a k-d tree over exact integer coordinates."""
    truth, pred = blobs(3, (3000, 3000), 40, 0.2), blobs(4, (3000, 3000), 60, 0.1)
    points = [np.argwhere(scipy_contour(mask)) for mask in (truth, pred)]
    assert min(map(len, points)) > 10_000
    lists = directed_distances(truth, pred, spacing)
    for values, here, there in zip(lists, points, points[::-1], strict=True):
        _, candidates = cKDTree(there * spacing).query(here * spacing, k=4)
        squares = (((here[:, None] - there[candidates]) * spacing) ** 2).sum(axis=-1).min(axis=1)
        np.testing.assert_allclose(values, np.sort(np.sqrt(squares)), rtol=1e-14)
        if spacing == (1.0, 1.0):
            assert (np.rint(np.square(values)).astype(int) == np.sort(squares).astype(int)).all()
    if spacing[0] == spacing[1]:
        assert image_metrics(truth, pred, spacing=spacing)["hd"] == max(values[-1] for values in lists)


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 1.1)])
def test_3000_squared_pixels_equal_scipys_transform(spacing: tuple[float, float]) -> None:
    truth, pred = blobs(5, (3000, 3000), 40, 0.2), blobs(6, (3000, 3000), 60, 0.1)
    for values, expected in zip(
        directed_distances(truth, pred, spacing), scipy_lists(truth, pred, spacing), strict=True
    ):
        np.testing.assert_allclose(values, expected, rtol=0 if spacing == (1.0, 1.0) else 1e-14)


def test_auc_counts_every_pair_of_deep_levels() -> None:
    rng = np.random.default_rng(0)
    levels = rng.choice(np.array([0, 1, 255, 32767, 32768, 65534, 65535], np.uint16), (20, 20))
    truth = rng.random((20, 20)) < 0.3
    positive, negative = levels[truth].astype(int)[:, None], levels[~truth].astype(int)
    wins = (positive > negative).sum() + 0.5 * (positive == negative).sum()
    expected = wins / (positive.size * negative.size)
    kinds = [np.uint16, np.int32, np.float32, np.float64]
    assert [auc(levels.astype(kind), truth) for kind in kinds] == [expected] * 4
    assert image_metrics(truth, levels >= 32768, scores=levels)["auc"] == expected


# ---- what always holds --------------------------------------------------------------------------

pairs = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
steps = st.floats(0.05, 20)
SYMMETRIC = ("dsc", "iou", "acc", "nsd", "hd", "hd95", "hd95_pooled", "avd", "mad", "assd")
DIRECTED = ("avd_truth_to_pred", "avd_pred_to_truth")


def close(found: dict[str, np.generic], expected: dict[str, float]) -> None:
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-12)


@settings(max_examples=150, deadline=None)
@given(pair=pairs, spacing=st.tuples(steps, steps), scale=st.sampled_from([0.1, 2.0, 30.0]))
def test_facts_of_all_masks(pair: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float], scale: float) -> None:
    truth, pred = pair
    found = {name: float(value) for name, value in image_metrics(truth, pred, spacing=spacing).items()}
    swapped = image_metrics(pred, truth, spacing=spacing)
    close(swapped, {name: found[name] for name in SYMMETRIC})
    close(swapped, {"sen": found["pc"], "pc": found["sen"], "fp": found["fn"], "fn": found["fp"]})
    close(swapped, dict(zip(DIRECTED, (found[name] for name in DIRECTED[::-1]), strict=True)))
    assert found["iou"] == pytest.approx(found["dsc"] / (2 - found["dsc"]), rel=1e-14)
    assert found["tp"] + found["fp"] + found["fn"] + found["tn"] == truth.size
    assert found["hd"] >= found["hd95"] >= 0
    assert found["hd"] >= found["hd95_pooled"]
    assert found["hd"] >= found["avd"] >= found["mad"] >= found["avd"] / 2
    assert min(found[name] for name in DIRECTED) <= found["assd"] <= found["avd"]
    scaled = image_metrics(truth, pred, spacing=(scale * spacing[0], scale * spacing[1]))
    close(scaled, {name: scale * found[name] for name in DISTANCES} | {name: found[name] for name in OVERLAPS})
    findings = ("missed", "false_alarm", "components", "empty", "nsd")
    unchanged = {name: found[name] for name in (*OVERLAPS, *DISTANCES[:-1], *findings)}  # of equal pieces one is taken
    close(image_metrics(truth[::-1], pred[::-1], spacing=spacing), unchanged)
    close(image_metrics(truth[:, ::-1], pred[:, ::-1], spacing=spacing), unchanged)
    close(image_metrics(truth.T, pred.T, spacing=spacing[::-1]), unchanged)
    assert found["hd"] in (0, math.inf) or (truth.any() and pred.any())


@settings(max_examples=60, deadline=None)
@given(pair=pairs)
def test_squares_of_distances_in_pixels_are_whole(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for values in directed_distances(*pair):
        finite = values[np.isfinite(values)]
        assert (np.sqrt(np.rint(np.square(finite))) == finite).all()


@settings(max_examples=60, deadline=None)
@given(pair=pairs, margins=st.tuples(*[st.integers(0, 5)] * 4))
def test_background_around_changes_nothing_but_its_count(
    pair: tuple[np.ndarray, np.ndarray], margins: tuple[int, int, int, int]
) -> None:
    padded = (np.pad(mask, (margins[:2], margins[2:])) for mask in pair)
    found, wide = image_metrics(*pair), image_metrics(*padded)
    for name in ("tp", "fp", "fn", "dsc", "iou", "sen", "pc", *DISTANCES, "components"):
        assert wide[name] == found[name]
