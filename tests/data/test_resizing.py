"""The training grid and back: values worked by hand, geometry against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from eus_ray.data.resizing import grid_spacing, placement, resize_image, resize_mask, to_original_grid


def test_placement_and_spacing() -> None:
    assert placement(100, 200, 64, "stretch") == (0, 0, 64, 64)
    assert placement(100, 200, 64, "pad") == (16, 0, 32, 64)
    assert placement(30, 20, 60, "pad") == (0, 10, 60, 40)
    assert placement(1, 4000, 32, "pad") == (15, 0, 1, 32)
    assert grid_spacing(100, 200, (0.2, 0.1), 50, "stretch") == pytest.approx((0.4, 0.4))
    assert grid_spacing(100, 200, (0.2, 0.1), 50, "pad") == pytest.approx((0.8, 0.4))
    assert np.isnan(grid_spacing(100, 200, (np.nan, np.nan), 50, "pad")).all()


def test_shrinking_averages_and_growing_interpolates() -> None:
    image = np.array([[0, 100, 40, 60], [100, 200, 40, 60]] * 2, np.uint8)
    assert resize_image(image, 2, "stretch").tolist() == [[100, 50], [100, 50]]
    tall = np.repeat(np.array([[0, 80]], np.uint8), 8, axis=0)  # rows shrink by 2, columns grow by 2
    assert resize_image(tall, 4, "stretch").tolist() == [[0, 20, 60, 80]] * 4


def test_padding_is_black_and_centred() -> None:
    grid = resize_image(np.full((10, 20), 90, np.uint8), 20, "pad")
    assert (grid[5:15] == 90).all()
    assert not grid[:5].any()
    assert not grid[15:].any()


def test_masks_stay_masks_where_half_a_pixel_is_covered() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[0, :2] = 1  # half of the first pixel
    mask[2, 0] = 1  # a quarter of the third
    mask[2:, 2:] = 1
    assert resize_mask(mask, 2, "stretch").tolist() == [[1, 0], [0, 1]]


def test_a_lesion_never_vanishes() -> None:
    mask = np.zeros((640, 640), np.uint8)
    mask[101, 205] = 1
    small = resize_mask(mask, 64, "stretch")
    assert np.argwhere(small).tolist() == [[10, 20]]
    assert not resize_mask(0 * mask, 64, "stretch").any()


# ---- and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(90, 150), (33, 47), (64, 64), (200, 40), (97, 31)])
def test_a_plane_comes_back_where_it_was(shape: tuple[int, int], resize: str) -> None:
    """On the grid, a plane is a plane through the same points: centres (i + .5) · S / H - .5. Borders replicate."""
    size = 64
    top, left, height, width = placement(*shape, size, resize)  # type: ignore[arg-type]
    rows, columns = np.mgrid[0.5 : shape[0], 0.5 : shape[1]]
    plane = 0.2 + 0.3 * rows / shape[0] + 0.4 * columns / shape[1]
    grid_rows, grid_columns = np.mgrid[0.5:height, 0.5:width]
    grid = np.full((size, size), 0.9, np.float32)  # what lies in the padding must not come back
    grid[top : top + height, left : left + width] = 0.2 + 0.3 * grid_rows / height + 0.4 * grid_columns / width
    back = to_original_grid(grid, *shape, resize)  # type: ignore[arg-type]
    inner = tuple(slice(n // 16 + 1, -(n // 16) - 1) for n in shape)
    assert back.shape == shape
    assert back.dtype == np.float32
    assert back[inner] == pytest.approx(plane[inner], abs=2e-3)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(90, 150), (40, 33), (97, 31)])
def test_a_point_lesion_stays_put(shape: tuple[int, int], resize: str) -> None:
    """There and back, the centre of a small lesion moves by a fraction of a grid pixel, without drift."""
    drift = []
    for row, column in np.random.default_rng(0).integers(8, np.array(shape) - 8, size=(40, 2)):
        mask = np.zeros(shape, np.float32)
        mask[row - 2 : row + 3, column - 2 : column + 3] = 1
        grid = resize_image((mask * 255).astype(np.uint8), 64, resize)  # type: ignore[arg-type]
        back = to_original_grid(grid.astype(np.float32) / 255, *shape, resize)  # type: ignore[arg-type]
        centre = np.array([(axis * back).sum() for axis in np.indices(shape)]) / back.sum()
        drift.append(centre - (row, column))
    assert np.abs(drift).max() < 0.3
    assert np.abs(np.mean(drift, axis=0)) == pytest.approx([0, 0], abs=0.05)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_the_same_size_is_left_alone(resize: str) -> None:
    probability = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    assert (to_original_grid(probability, 64, 64, resize) == probability).all()  # type: ignore[arg-type]
