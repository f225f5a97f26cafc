"""The phantom's physics: speckle, attenuation, gain compensation, and masks where the cancer is."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from eus_ray.data.phantom.anatomy import Slice
from eus_ray.data.phantom.ultrasound import SCANNERS, View, beam_grid, beamform, render

SIZE = 128


@pytest.fixture
def view() -> View:
    return View(np.zeros(3), 0.0, 60.0, 1.0, 0.0, 0.0, 0.0, np.zeros((1, 2)))


def speckle() -> tuple[np.ndarray, np.ndarray]:
    """The signal of homogeneous tissue, and the radii of its rows."""
    scanner = SCANNERS[0]
    grid = beam_grid(scanner, 60.0)
    ones = np.ones((len(grid.radius_mm), len(grid.angle)), np.float32)
    return beamform(ones, 0 * ones, grid, scanner, np.random.default_rng(0)), grid.radius_mm


def test_homogeneous_tissue_is_rayleigh_speckle() -> None:
    signal, _ = speckle()
    envelope = np.abs(signal[20:-20])
    assert np.mean(envelope**2) == pytest.approx(1, rel=0.05)
    # sqrt(pi / (4 - pi)), the mean over the standard deviation of a Rayleigh distribution
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, rel=0.03)
    apart = envelope[::12, ::24].ravel()  # samples so far apart that they are independent
    assert kstest(apart, "rayleigh", args=(0, math.sqrt(0.5))).pvalue > 0.01


def test_speckle_widens_with_depth() -> None:
    signal, radius = speckle()
    step = beam_grid(SCANNERS[0], 60.0).angle[:2]
    neighbours = (signal[:, 1:] * signal[:, :-1].conj()).real.mean(1) / (np.abs(signal) ** 2).mean(1)
    # a Gaussian of standard deviation s has the autocorrelation exp(-d^2 / (4 s^2))
    width = (step[1] - step[0]) * radius / np.sqrt(-4 * np.log(neighbours))
    focus, deep = np.abs(radius - 32) < 5, radius > 60
    assert np.median(width[deep]) > 1.8 * np.median(width[focus])


def homogeneous(**changes: float) -> Any:
    """A stand-in for a patient who is parenchyma throughout, but for `changes` of single properties."""

    def cut(points: np.ndarray, *_: object) -> Slice:
        shape = points.shape[1:]
        layers = {"echo_db": 0.0, "attenuation": 0.5, "impedance": 1.0, "lesion_mm": 9.0}
        return Slice(**{name: np.full(shape, value, np.float32) for name, value in layers.items()})

    def changed(points: np.ndarray, *rest: object) -> Slice:
        tissue = cut(points, *rest)
        inside = (np.abs(points[0]) < 4) & (np.abs(points[1] - 25) < 4)
        for name, value in changes.items():
            getattr(tissue, name)[inside] = value
        return tissue

    return SimpleNamespace(horizontal=np.array([1.0, 0.0, 0.0]), cut=changed)


def gray_behind_and_beside(patient: Any, view: View) -> tuple[float, float]:
    image, _, pixel_mm = render(patient, view, SCANNERS[0], SIZE, np.random.default_rng(0))
    rows = slice(int(38 / pixel_mm), int(50 / pixel_mm))
    middle, aside = SIZE // 2, SIZE // 2 + int(16 / pixel_mm)
    return float(image[rows, middle - 3 : middle + 4].mean()), float(image[rows, aside - 3 : aside + 4].mean())


def test_stone_casts_a_shadow_and_fluid_enhances(view: View) -> None:
    behind, beside = gray_behind_and_beside(homogeneous(attenuation=6.0), view)
    assert behind < 0.5 * beside
    behind, beside = gray_behind_and_beside(homogeneous(attenuation=0.1), view)
    assert behind > 1.1 * beside
    behind, beside = gray_behind_and_beside(homogeneous(), view)
    assert behind == pytest.approx(beside, rel=0.1)


def test_gain_compensation_keeps_homogeneous_tissue_even(view: View) -> None:
    image, mask, pixel_mm = render(homogeneous(), view, SCANNERS[0], SIZE, np.random.default_rng(0))
    column = image[:, SIZE // 2 - 20 : SIZE // 2 + 20].mean(1)
    shallow, deep = column[int(15 / pixel_mm) : int(25 / pixel_mm)], column[int(50 / pixel_mm) : int(60 / pixel_mm)]
    assert shallow.mean() == pytest.approx(deep.mean(), rel=0.08)
    assert not mask.any()
    corners = image[-3:, :3]
    assert (corners == 0).all(), "outside the sector there is nothing"


def test_mask_is_where_the_cancer_is(view: View) -> None:
    """A square of 8 mm at a depth of 25 mm."""
    image, mask, pixel_mm = render(homogeneous(lesion_mm=-9.0), view, SCANNERS[0], 256, np.random.default_rng(0))
    rows, columns = np.nonzero(mask)
    assert np.ptp(rows) * pixel_mm == pytest.approx(8, abs=1)
    assert np.ptp(columns) * pixel_mm == pytest.approx(8, abs=1)
    assert columns.mean() == pytest.approx(127.5, abs=2)
    shallower = replace(view, origin=np.array([0.0, 10.0, 0.0]))
    _, moved, _ = render(homogeneous(lesion_mm=-9.0), shallower, SCANNERS[0], 256, np.random.default_rng(0))
    assert (rows.mean() - np.nonzero(moved)[0].mean()) * pixel_mm == pytest.approx(10, abs=0.5)
    assert image.shape == (256, 256)
