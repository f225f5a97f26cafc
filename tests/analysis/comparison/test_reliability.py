"""Reliability curves are averaged like a metric, and agree with scikit-learn's where images weigh as pixels do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from eus_ray.analysis.comparison.reliability import Bins, reliability
from eus_ray.analysis.measures.calibration import calibration

Pixels = list[tuple[int, float, int]]


def stack(whole: Pixels, box: Pixels) -> np.ndarray:
    """Return two bins of an image: number of pixels, sum of their probabilities, pixels in the truth."""
    return np.array([whole, box], np.float64)


def rows(*images: tuple[str, int, str]) -> pd.DataFrame:
    """Return rows of one model by image, fold and patient."""
    named, folds, patients = zip(*images, strict=True)
    frame = pd.DataFrame({"image_id": named, "fold": folds, "patient_id": patients})
    return frame.assign(model="m", kind="fixed")


def curve(images: pd.DataFrame, bins: Bins, average: str, region: str) -> dict[str, list[float]]:
    found = reliability(images, bins, average)
    return found[found["region"] == region][["share", "probability", "observed"]].to_dict("list")


def test_images_weigh_equally_whatever_their_pixels_by_hand() -> None:
    bins = {
        ("m", "fixed", "small"): stack([(3, 0.3, 0), (1, 0.9, 1)], [(0, 0.0, 0), (1, 0.9, 1)]),
        ("m", "fixed", "large"): stack([(100, 40.0, 20), (300, 180.0, 300)], [(10, 4.0, 5), (10, 6.0, 10)]),
    }
    images = rows(("small", 0, "p"), ("large", 0, "q"))
    # shares of the lower bin are 3/4 and 1/4; of its probability sums .075 and .1; of its truth 0 and .05
    whole = curve(images, bins, "images", "image")
    assert whole["share"] == pytest.approx([0.5, 0.5])
    assert whole["probability"] == pytest.approx([0.0875 / 0.5, (0.225 + 0.45) / 2 / 0.5])
    assert whole["observed"] == pytest.approx([0.025 / 0.5, (0.25 + 0.75) / 2 / 0.5])
    box = curve(images, bins, "images", "box")
    assert box["share"] == pytest.approx([0.25, 0.75])
    assert box["observed"] == pytest.approx([0.125 / 0.25, (1 + 0.5) / 2 / 0.75])


def test_patients_and_folds_weigh_equally() -> None:
    low, high = stack([(2, 0.2, 0), (0, 0, 0)], [(0, 0, 0)] * 2), stack([(0, 0, 0), (2, 1.8, 1)], [(0, 0, 0)] * 2)
    bins = {("m", "fixed", name): low if name.startswith("l") else high for name in ("l1", "h1", "h2", "l2")}
    images = rows(("l1", 0, "p"), ("h1", 0, "p"), ("h2", 0, "q"), ("l2", 1, "r"))
    # patients: fold 0 has (1/2 + 0)/2 = 1/4 in the lower bin, fold 1 has 1; images: (1/3 + 1)/2
    assert curve(images, bins, "patients", "image")["share"][0] == pytest.approx(0.625)
    assert curve(images, bins, "images", "image")["share"][0] == pytest.approx(2 / 3)


def test_without_a_box_an_image_counts_for_the_whole_alone_and_empty_bins_have_no_point() -> None:
    bins = {("m", "fixed", "a"): stack([(4, 0.4, 0), (0, 0, 0)], [(0, 0, 0)] * 2)}
    images = rows(("a", 0, "p"), ("unmeasured", 0, "q"))
    whole, box = (curve(images, bins, "images", region) for region in ("image", "box"))
    assert whole["share"] == [1, 0]
    assert whole["observed"][0] == 0
    assert np.isnan([whole["observed"][1], *box["share"], *box["observed"]]).all()
    assert reliability(images, {}, "images").empty


def test_equal_images_give_scikit_learns_curve() -> None:
    """Many images of one size, each of another patient in one fold: all their pixels weigh the same."""
    rng = np.random.default_rng(0)
    truths = rng.random((6, 20, 30)) < 0.3
    levels = rng.integers(0, 65_536, truths.shape).astype(np.uint16)
    bins = {
        ("m", "fixed", f"i{place}"): calibration(level, truth, level >= 32_768).bins
        for place, (level, truth) in enumerate(zip(levels, truths, strict=True))
    }
    found = curve(rows(*((f"i{place}", 0, f"p{place}") for place in range(6))), bins, "patients", "image")
    # a hair below, so that p on a bin's border falls into the lower bin, as in the bins
    observed, probability = calibration_curve(truths.ravel(), levels.ravel() / 65_535 * (1 - 1e-12), n_bins=15)
    assert found["observed"] == pytest.approx(observed, abs=1e-9)
    assert found["probability"] == pytest.approx(probability, abs=1e-9)
    assert sum(found["share"]) == pytest.approx(1)
