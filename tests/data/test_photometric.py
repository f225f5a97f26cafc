"""Photometric augmentation: each change does what its field says, to the image alone, and shifts no other draw."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest

from eus_ray.config import AugmentSettings
from eus_ray.data.augmentation import Augmenter
from tests.data.test_augmentation import Image, disk, frozen, only, speckle

CHANGES = ("brightness", "contrast", "gamma", "blur", "noise", "speckle", "downscale", "occlusion")
SIDE = 64


def always(change: str, **strength: float) -> Augmenter:
    return only(**{f"{change}_probability": 1.0}, **strength)


def images_of(augmenter: Augmenter, image: Image, seeds: int) -> list[Image]:
    """What the image becomes with each seed; its mask must stay."""
    mask = disk(30, 30, 15, SIDE)
    image, mask = frozen(image, mask)
    changed = []
    for seed in range(seeds):
        image_out, mask_out = augmenter(image, mask, seed)
        assert np.array_equal(mask_out, mask)
        assert (image_out.dtype, image_out.shape) == (np.uint8, image.shape)
        assert image_out.flags.c_contiguous
        changed.append(image_out)
    return changed


def flat(level: int, *channels: int) -> Image:
    return np.full((SIDE, SIDE, *channels), level, np.uint8)


def colour(size: int = SIDE) -> Image:
    return np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("settings", "digest"),
    [
        ({}, "bd096c345bef313ca04c3deafca7bbe8"),
        ({"preset": "paper"}, "64693b11e0821129287e6bc09d46c7af"),
        (
            {
                "rotations_degrees": (-20.0, 0.0, 20.0),
                "scales": (0.8, 1.0, 1.25),
                "flip_probability": 0.3,
                "elastic_probability": 0.5,
                "elastic_alpha": 100.0,
                "elastic_sigma": 6.0,
            },
            "3da619c411024271749304f351d4915a",
        ),
    ],
    ids=["standard", "paper", "elastic"],
)
def test_without_photometric_changes_images_are_those_of_versions_that_had_none(
    settings: dict[str, Any], digest: str
) -> None:
    """The digests were taken before there were photometric changes."""
    augmenter, seen = Augmenter(AugmentSettings(**settings)), hashlib.sha256()
    for seed in [*range(40), 2**63 - 1]:
        for array in augmenter(speckle(), disk(40, 50, 20), seed):
            seen.update(np.ascontiguousarray(array).tobytes())
    assert seen.hexdigest()[:32] == digest


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("image", [speckle(SIDE), colour()], ids=["gray", "colour"])
def test_a_change_leaves_masks_inputs_and_types_and_each_seed_gives_its_own(change: str, image: Image) -> None:
    before = image.copy()
    first = images_of(always(change), image, 12)
    again = images_of(always(change), image, 12)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({changed.tobytes() for changed in first}) >= 10
    assert np.array_equal(image, before)


@pytest.mark.parametrize("change", CHANGES)
def test_probabilities_are_the_share_of_images_that_change(change: str) -> None:
    image = speckle(SIDE)
    changed = images_of(only(**{f"{change}_probability": 0.3}), image, 500)
    share = np.mean([not np.array_equal(each, image) for each in changed])
    assert 0.22 < share < 0.37  # standard deviation 0.02; a few changes are too small to see


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "downscale"])
def test_what_is_gray_stays_gray_in_colour_images(change: str) -> None:
    """A colour image of three equal channels becomes what the gray one does."""
    gray = speckle(SIDE)
    alone, stacked = images_of(always(change), gray, 10), images_of(always(change), np.stack([gray] * 3, axis=-1), 10)
    for one, three in zip(alone, stacked, strict=True):
        assert np.array_equal(three, np.stack([one] * 3, axis=-1))


@pytest.mark.parametrize("settings", [{}, {"elastic_probability": 1.0, "elastic_alpha": 100.0, "elastic_sigma": 6.0}])
def test_geometry_moves_all_channels_like_a_gray_image(settings: dict[str, Any]) -> None:
    augmenter, image, mask = Augmenter(AugmentSettings(**settings)), colour(96), disk(40, 50, 20)
    for seed in range(12):
        image_out, mask_out = augmenter(image, mask, seed)
        for channel in range(3):
            alone, alone_mask = augmenter(np.ascontiguousarray(image[:, :, channel]), mask, seed)
            assert np.abs(image_out[:, :, channel].astype(int) - alone).max() <= 1  # OpenCV rounds by other code
            assert np.array_equal(mask_out, alone_mask)


def test_brightness_adds_a_share_of_the_full_range() -> None:
    added = []
    for changed in images_of(always("brightness", brightness=0.2), flat(128), 600):
        assert len(np.unique(changed)) == 1
        added.append(int(changed[0, 0]) - 128)
    assert -52 <= min(added) < -48  # 0.2 * 255 = 51, and the library rounds down
    assert 48 < max(added) <= 51
    assert abs(np.mean(added)) < 5  # standard deviation 1.2
    assert images_of(always("brightness", brightness=1.0), flat(250), 40)[0].max() <= 255


def test_contrast_stretches_about_the_mean() -> None:
    image = flat(30)
    image[:, SIDE // 2 :] = 220
    factors = []
    for changed in images_of(always("contrast", contrast=0.2), image, 600):
        assert changed.mean() == pytest.approx(125, abs=1.1)
        factors.append((int(changed[0, -1]) - int(changed[0, 0])) / 190)
    assert 0.8 - 0.02 <= min(factors) < 0.82
    assert 1.18 < max(factors) <= 1.2 + 0.02


def test_contrast_of_colour_images_is_about_the_mean_of_their_gray_values() -> None:
    image = flat(0, 3)
    image[:, :] = (60, 120, 200)
    luma = 0.299 * 60 + 0.587 * 120 + 0.114 * 200  # ITU-R BT.601: 111.2
    for changed in images_of(always("contrast", contrast=0.3), image, 20):
        pixel = changed[0, 0].astype(int)
        factor = (pixel[2] - pixel[0]) / (200 - 60)
        assert np.allclose(pixel, luma + factor * (np.array([60, 120, 200]) - luma), atol=2)


def test_gamma_is_an_exponent_of_the_values_in_0_to_1() -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (SIDE, 1))
    ramp[:, -1] = 255
    exponents = []
    for changed in images_of(always("gamma", gamma=1.5), ramp, 600):
        exponent = np.log(changed[0, 32] / 255) / np.log(128 / 255)
        expected = 255 * (ramp[0] / 255) ** exponent
        assert np.abs(changed[0] - expected).max() <= 2
        assert (changed[0, 0], changed[0, -1]) == (0, 255)
        exponents.append(exponent)
    assert 1 / 1.5 - 0.01 <= min(exponents) < 0.69
    assert 1.47 < max(exponents) <= 1.5 + 0.02


def test_blur_is_a_gaussian_of_at_most_so_many_pixels() -> None:
    line, rows = flat(0), np.arange(SIDE) - 32
    line[32] = 255
    deviations = []
    for changed in images_of(always("blur", blur_sigma=2.0), line, 300):
        profile = changed[:, 20] / changed[:, 20].sum()
        deviations.append(float(np.sqrt((profile * rows**2).sum())))
    assert min(deviations) < 0.2
    assert 1.8 < max(deviations) <= 2.05
    wide = max(images_of(always("blur", blur_sigma=2.0), line, 300), key=lambda changed: -int(changed[32, 20]))
    expected = np.exp(-0.5 * (rows / max(deviations)) ** 2)
    assert np.abs(wide[:, 20] - 255 * expected / expected.sum()).max() < 2


@pytest.mark.parametrize(
    ("change", "level", "largest", "of"),
    [("noise", 128, 0.05, 255), ("noise", 128, 0.01, 255), ("speckle", 100, 0.2, 100)],
)
def test_noise_has_at_most_the_standard_deviation_that_is_named(
    change: str, level: int, largest: float, of: float
) -> None:
    changed = np.stack(images_of(always(change, **{change: largest}), flat(level), 400)).astype(float)
    deviations = changed.std(axis=(1, 2))
    rounding = 12**-0.5  # of whole gray values
    assert deviations.max() <= np.hypot(1.05 * largest * of, rounding)
    assert deviations.max() > 0.95 * largest * of
    assert deviations.mean() == pytest.approx(np.hypot(largest * of / 2, rounding), rel=0.12)
    assert np.abs(changed.mean(axis=(1, 2)) - level).max() < 4 * largest * of / SIDE
    strongest = changed[deviations.argmax()] - level
    assert np.mean(np.abs(strongest) > 2 * strongest.std()) == pytest.approx(0.0455, abs=0.015)  # a Gaussian's share


def test_speckle_leaves_black_black_and_noise_does_not() -> None:
    assert not any(changed.any() for changed in images_of(always("speckle"), flat(0), 10))
    assert any(changed.any() for changed in images_of(always("noise"), flat(0), 10))


def test_downscaling_takes_what_is_fine_and_leaves_what_is_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    factors: list[float] = []
    resize = cv2.resize

    def spy(image: Image, size: Any, **more: Any) -> Any:
        factors.extend([more["fx"]] if "fx" in more else [])
        return resize(image, size, **more)

    monkeypatch.setattr(cv2, "resize", spy)
    stripes = flat(0)
    stripes[:, ::2] = 200
    changed = images_of(always("downscale", downscale=0.5), stripes, 200)
    contrast = np.array([each[:, 8:-8].std() for each in changed])
    assert 0.5 <= min(factors) < 0.51
    assert 0.99 < max(factors) <= 1
    assert np.corrcoef(factors, contrast)[0, 1] > 0.5
    assert contrast[np.argmin(factors)] < 20  # 100 before
    ramp = np.tile(np.arange(60, 60 + SIDE, dtype=np.uint8), (SIDE, 1))
    for each in images_of(always("downscale", downscale=0.5), ramp, 20):
        assert np.abs(each.astype(int) - ramp)[:, 4:-4].max() <= 1
    assert images_of(always("downscale", downscale=0.05), flat(7), 40)[0].shape == (SIDE, SIDE)


@pytest.mark.parametrize("image", [flat(200), flat(200, 3)], ids=["gray", "colour"])
def test_occlusion_is_one_black_rectangle_of_at_most_that_side(image: Image) -> None:
    heights, widths, covered = [], [], np.zeros((SIDE, SIDE))
    for changed in images_of(always("occlusion", occlusion=0.3), image, 400):
        black = (changed == 0).reshape(SIDE, SIDE, -1)
        assert (black.all(axis=-1) == black.any(axis=-1)).all()
        rows, columns = np.nonzero(black[:, :, 0])
        assert set(np.unique(changed)) <= {0, 200}
        if not len(rows):
            continue
        heights.append(np.ptp(rows) + 1)
        widths.append(np.ptp(columns) + 1)
        assert len(rows) == heights[-1] * widths[-1]
        covered += black[:, :, 0]
    assert max(heights) == max(widths) == 19  # 0.3 * 64 = 19.2
    assert len(heights) > 350
    assert all(edge.any() for edge in (covered[0], covered[-1], covered[:, 0], covered[:, -1])), "all edges are reached"


def test_no_change_shifts_the_draws_of_another_or_of_the_geometry() -> None:
    image, mask = speckle(), disk(40, 50, 20)
    plain = Augmenter(AugmentSettings(noise_probability=0.5))
    occluded = Augmenter(AugmentSettings(noise_probability=0.5, occlusion_probability=1.0))
    changed = Augmenter(AugmentSettings(**{f"{change}_probability": 0.5 for change in CHANGES}))
    for seed in range(30):
        one, one_mask = plain(image, mask, seed)
        other, other_mask = occluded(image, mask, seed)
        assert np.array_equal(one[other > 0], other[other > 0])
        assert np.array_equal(one_mask, other_mask)
        assert np.array_equal(one_mask, changed(image, mask, seed)[1])


def test_threads_with_their_own_augmenters_draw_the_same() -> None:
    settings = AugmentSettings(**{f"{change}_probability": 0.7 for change in CHANGES})
    image, mask = frozen(speckle(), disk(40, 50, 20))
    alone = [Augmenter(settings)(image, mask, seed)[0] for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda seed: Augmenter(settings)(image, mask, seed)[0], range(40)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, threaded, strict=True))


def test_everything_at_its_strongest_on_the_smallest_image() -> None:
    strongest = {
        "brightness": 1.0, "contrast": 0.99, "gamma": 5.0, "blur_sigma": 20.0, "noise": 1.0, "speckle": 1.0,
        "downscale": 0.05, "occlusion": 0.99,
    }  # fmt: skip
    settings = AugmentSettings(**strongest, **{f"{change}_probability": 1.0 for change in CHANGES})
    for image in (speckle(32), colour(32)):
        for seed in (*range(20), 2**63 - 1):
            image_out, _ = Augmenter(settings)(image, disk(16, 16, 9, 32), seed)
            assert (image_out.dtype, image_out.shape) == (np.uint8, image.shape)
