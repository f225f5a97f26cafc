"""Outlines on images, and which frames of a video are shown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from eus_ray.inference.overlays import clip_frames, draw_outline, find_onset, strip_frames


def seen(*runs: int) -> np.ndarray:
    """Frames without a lesion, then with, then without, and so on, as many as the numbers say."""
    return np.concatenate([np.full(length, place % 2 == 1) for place, length in enumerate(runs)])


def test_an_image_without_lesion_is_left_as_it_is() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    drawn = draw_outline(gray, np.zeros_like(gray, np.bool_), "#56b4e9")
    np.testing.assert_array_equal(drawn, np.dstack([gray] * 3))


@pytest.mark.parametrize("side", [100, 800])
def test_the_line_runs_along_the_edge_and_nothing_else_changes(side: int) -> None:
    rows, columns = np.mgrid[:side, :side]
    mask = (rows - 0.45 * side) ** 2 + (columns - 0.6 * side) ** 2 < (0.25 * side) ** 2
    gray = np.full(mask.shape, 200, np.uint8)
    drawn = draw_outline(gray, mask, "#ff8000").astype(int)
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    far = np.maximum(inside, outside) >= 6
    assert (drawn[far] == 200).all()
    edge = (inside == 1) | (outside == 1)
    blue, red = drawn[..., 0], drawn[..., 2]
    assert (red - blue)[edge].mean() > 100
    coloured = red - blue > 20
    assert ndimage.label(coloured, np.ones((3, 3)))[1] == 1, "the line has no gap"
    assert ndimage.label(~coloured)[1] == 2, "and parts inside from outside"


def test_a_line_on_white_tissue_has_a_dark_casing() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[20:40, 20:40] = True
    drawn = draw_outline(np.full(mask.shape, 255, np.uint8), mask, "#56b4e9")
    assert drawn.sum(axis=2).min() < 255 * 3 - 250


def test_the_lesion_find_onset_where_it_stays() -> None:
    assert find_onset(seen(10, 10), 1) == 10
    assert find_onset(seen(3, 1, 8, 6), 2) == 12, "not with the flicker before"
    assert find_onset(seen(8, 6, 8, 6), 2) == 8, "of equals the first"
    assert find_onset(seen(0, 5, 9, 5), 2) == 14, "with a clear time before"
    assert find_onset(seen(0, 5), 2) == 0
    assert find_onset(seen(5), 1) is None


def test_a_strip_shows_every_half_second_around_that_frame() -> None:
    assert strip_frames(seen(10, 10), 0.5) == [8, 9, 10, 11, 12]
    assert strip_frames(seen(50, 50), 0.1) == [40, 45, 50, 55, 60]
    assert strip_frames(seen(50, 50), float("nan")) == [48, 49, 50, 51, 52]
    assert strip_frames(seen(50, 50), 2.0) == [48, 49, 50, 51, 52]


def test_a_strip_stays_within_the_video() -> None:
    assert strip_frames(seen(1, 19), 0.5) == [0, 1, 2, 3, 4]
    assert strip_frames(seen(19, 1), 0.5) == [15, 16, 17, 18, 19]
    assert strip_frames(seen(10, 10), 0.1) == [2, 6, 10, 14, 18], "shorter steps where half seconds do not fit"
    assert strip_frames(seen(9), 0.5) == [0, 1, 2, 3, 4]
    assert strip_frames(seen(1, 2), 0.1) == [0, 1, 2]
    assert strip_frames(seen(1), 0.5) == [0]


def test_a_short_video_is_shown_whole_and_a_long_one_around_the_lesion() -> None:
    assert clip_frames(seen(400, 350), 25.0) == range(750)
    assert clip_frames(seen(1000, 2000), 25.0) == range(875, 1625)
    assert clip_frames(seen(50, 2000), 25.0) == range(750)
    assert clip_frames(seen(2000, 10), 25.0) == range(1260, 2010)
    assert clip_frames(seen(2000), 25.0) == range(750)


def test_frames_of_a_strip_are_always_in_the_clip() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        frames = seen(*random.integers(1, 700, random.integers(1, 6)))
        assert set(strip_frames(frames, 1 / 25)) <= set(clip_frames(frames, 25.0))
