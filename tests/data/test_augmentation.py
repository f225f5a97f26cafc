from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from eus_ray.config import AugmentSettings
from eus_ray.data import augmentation
from eus_ray.data.augmentation import Augmenter

Image = npt.NDArray[np.uint8]


def only(**settings: Any) -> Augmenter:
    """An augmenter that does nothing but what is named."""
    nothing: dict[str, Any] = {
        "rotations_degrees": (0.0,),
        "scales": (1.0,),
        "flip_probability": 0.0,
        "elastic_probability": 0.0,
    }
    return Augmenter(AugmentSettings(**(nothing | settings)))


def disk(row: float, column: float, radius: float, size: int = 96) -> Image:
    """A mask, 1 inside."""
    rows, columns = np.indices((size, size))
    return (np.hypot(rows - row, columns - column) <= radius).astype(np.uint8)


def speckle(size: int = 96, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(1, 256, (size, size), dtype=np.uint8)


def centre(weights: Image) -> tuple[float, float]:
    rows, columns = np.indices(weights.shape)
    return float(np.average(rows, weights=weights)), float(np.average(columns, weights=weights))


def frozen(*arrays: Image) -> tuple[Image, ...]:
    for array in arrays:
        array.setflags(write=False)
    return arrays


def test_nothing_drawn_changes_nothing() -> None:
    image, mask = speckle(), disk(40, 50, 20)
    for seed in range(20):
        image_out, mask_out = only()(image, mask, seed)
        assert np.array_equal(image_out, image)
        assert np.array_equal(mask_out, mask)


def test_flip_mirrors_columns_exactly() -> None:
    image, mask = speckle(), disk(40, 50, 20)
    image_out, mask_out = only(flip_probability=1.0)(image, mask, seed=0)
    assert np.array_equal(image_out, image[:, ::-1])
    assert np.array_equal(mask_out, mask[:, ::-1])


@pytest.mark.parametrize("degrees", [-5.0, 5.0, 90.0])
def test_rotation_turns_image_and_mask_together_about_the_centre(degrees: float) -> None:
    mask = disk(20, 70, 8)
    image_out, mask_out = only(rotations_degrees=(degrees,))(mask * 255, mask, seed=0)
    # An offset (row, column) from the centre turned anticlockwise, as one sees it.
    middle, turn = 95 / 2, np.deg2rad(degrees)
    up, right = middle - 20, 70 - middle
    expected = (
        middle - (np.cos(turn) * up + np.sin(turn) * right),
        middle + np.cos(turn) * right - np.sin(turn) * up,
    )
    assert centre(mask_out) == pytest.approx(expected, abs=0.6)
    assert centre(image_out) == pytest.approx(centre(mask_out), abs=0.3)
    assert mask_out.sum() == pytest.approx(mask.sum(), rel=0.05)


@pytest.mark.parametrize("scale", [0.9, 1.1, 0.5])
def test_scale_changes_areas_by_its_square(scale: float) -> None:
    mask = disk(47.5, 47.5, 24)
    image_out, mask_out = only(scales=(scale,))(mask * 200, mask, seed=0)
    assert mask_out.sum() == pytest.approx(mask.sum() * scale**2, rel=0.02)
    assert centre(mask_out) == pytest.approx((47.5, 47.5), abs=0.3)
    assert image_out.sum() == pytest.approx(200 * mask.sum() * scale**2, rel=0.02)


def test_what_comes_from_outside_is_black_and_no_lesion() -> None:
    full, lesion = np.full((96, 96), 255, np.uint8), np.ones((96, 96), np.uint8)
    image_out, mask_out = only(scales=(0.5,))(full, lesion, seed=0)
    assert not image_out[:20].any()
    assert not mask_out[:20].any()
    assert image_out[48, 48] == 255


@pytest.mark.parametrize("kind", ["rotation", "scale", "elastic"])
def test_mask_and_image_stay_aligned(kind: str) -> None:
    # The image is its own mask: after any deformation the image's half level is where the mask's edge is.
    chosen = {
        "rotation": only(rotations_degrees=(5.0,)),
        "scale": only(scales=(1.1,)),
        "elastic": only(elastic_probability=1.0, elastic_alpha=300.0, elastic_sigma=8.0),
    }[kind]
    mask = disk(40, 55, 22)
    for seed in range(5):
        image_out, mask_out = chosen(mask * 255, mask, seed)
        assert not np.array_equal(mask_out, mask)
        away = (image_out >= 128) != (mask_out == 1)
        assert away.sum() < 0.02 * mask.sum()


def test_masks_keep_their_two_values() -> None:
    augmenter = Augmenter(AugmentSettings(elastic_probability=0.5, elastic_alpha=100.0, elastic_sigma=6.0))
    mask = (speckle(seed=1) < 100).astype(np.uint8)
    for seed in range(30):
        _, mask_out = augmenter(speckle(), mask, seed)
        assert set(np.unique(mask_out)) <= {0, 1}
        assert mask_out.dtype == np.uint8
        assert mask_out.shape == mask.shape


def test_the_seed_alone_decides() -> None:
    settings = AugmentSettings(elastic_probability=0.5, elastic_alpha=100.0, elastic_sigma=6.0)
    image, mask = frozen(speckle(), disk(40, 50, 20))
    first = Augmenter(settings)
    forwards = {seed: first(image, mask, seed) for seed in range(12)}
    np.random.seed(5)  # it must not matter
    second = Augmenter(settings)
    for seed in reversed(range(12)):
        for before, after in zip(forwards[seed], second(image, mask, seed), strict=True):
            assert np.array_equal(before, after)
    assert len({pair[0].tobytes() for pair in forwards.values()}) > 6
    assert np.array_equal(image, speckle())  # never written to


def test_large_seeds() -> None:
    image, mask = speckle(), disk(40, 50, 20)
    augmenter = Augmenter(AugmentSettings(elastic_probability=1.0))
    assert not np.array_equal(augmenter(image, mask, 2**63)[0], augmenter(image, mask, 2**63 + 1)[0])


def test_listed_values_are_drawn_equally_and_nothing_between() -> None:
    # A bar along the middle row tells its angle and length; 3 rotations x 2 scales, half of them flipped.
    augmenter = only(rotations_degrees=(-30.0, 0.0, 60.0), scales=(1.0, 0.5), flip_probability=0.5)
    marks = np.zeros((97, 97), np.uint8)
    marks[46:51, 48:90] = 1
    seen: dict[bytes, int] = {}
    for seed in range(1200):
        _, out = augmenter(marks, marks, seed)
        seen[out.tobytes()] = seen.get(out.tobytes(), 0) + 1
    assert len(seen) == 3 * 2 * 2
    assert min(seen.values()) > 60  # 100 expected, standard deviation 9.6
    assert max(seen.values()) < 140


def test_one_setting_does_not_shift_the_draws_of_another() -> None:
    image, mask = speckle(), disk(40, 50, 20)
    plain, never = only(flip_probability=0.5), only(flip_probability=0.5, elastic_probability=0.5, elastic_alpha=0.0)
    for seed in range(20):
        assert np.array_equal(plain(image, mask, seed)[0], never(image, mask, seed)[0])


def test_the_papers_elastic_deformation_moves_pixels_by_hundredths(monkeypatch: pytest.MonkeyPatch) -> None:
    # The standard deviation of uniform noise in [-a, a], smoothed by a Gaussian s: a / sqrt(3) / (2 sqrt(pi) s) = .0163
    moved = []
    remap = cv2.remap

    def spy(image: Image, columns: Any, rows: Any, *rest: Any, **more: Any) -> Any:
        moved.append(np.stack([rows, columns]) - np.indices(image.shape))
        return remap(image, columns, rows, *rest, **more)

    monkeypatch.setattr(augmentation.cv2, "remap", spy)
    augmenter = only(elastic_probability=1.0)
    for seed in range(12):
        augmenter(speckle(256), disk(100, 120, 50, 256), seed)
    fields = np.array(moved[::2])  # image and mask are moved by the same field
    assert np.array_equal(fields, np.array(moved[1::2]))
    middle = fields[:, :, 64:192, 64:192]
    assert middle.std() == pytest.approx(2.048 / 3**0.5 / (2 * np.pi**0.5 * 20.48), rel=0.15)
    assert 0.015 < np.hypot(*fields.swapaxes(0, 1)).mean() < 0.03
    assert np.abs(fields).max() < 0.15
    bottom, top = fields[:, 0, -1].ravel(), fields[:, 1, 0].ravel()
    assert abs(np.corrcoef(bottom, top)[0, 1]) < 0.5  # rows and columns are drawn apart


def test_elastic_deformation_of_small_images_and_small_sigmas() -> None:
    image, mask = speckle(32), disk(16, 16, 9, 32)
    for sigma in (0.1, 0.8, 200.0):
        image_out, mask_out = only(elastic_probability=1.0, elastic_alpha=5.0, elastic_sigma=sigma)(image, mask, seed=0)
        assert image_out.shape == mask_out.shape == (32, 32)
