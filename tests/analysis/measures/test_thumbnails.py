"""Pictures for the report are small, and what they show is what was there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from eus_ray.analysis.measures.thumbnails import MAP_SIDE_PX, jpeg, jpeg_of_png, probability_jpeg
from eus_ray.analysis.report.page import photo_uri, script_source


def decoded(data: bytes, flag: int = cv2.IMREAD_GRAYSCALE) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flag))


@pytest.mark.parametrize(
    ("shape", "shown"),
    [((256, 256), (96, 96)), ((300, 600), (48, 96)), ((48, 64), (48, 64)), ((1, 960), (1, 96)), ((1, 1), (1, 1))],
)
def test_a_maps_longest_side_is_bounded(shape: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = probability_jpeg(np.full(shape, 65535, np.uint16))
    assert decoded(picture).shape == shown
    assert max(shown) <= MAP_SIDE_PX
    assert decoded(picture).min() == 255


@pytest.mark.parametrize(("level", "gray"), [(0, 0), (32768, 128), (16384, 64), (65535, 255)])
def test_gray_is_the_probability(level: int, gray: int) -> None:
    assert abs(decoded(probability_jpeg(np.full((200, 200), level, np.uint16))).astype(int) - gray).max() <= 1


def test_a_smooth_map_survives() -> None:
    rows, columns = np.mgrid[:256, :256]
    probability = np.exp(-((rows - 100) ** 2 + (columns - 150) ** 2) / (2 * 40**2))
    picture = probability_jpeg(np.rint(probability * 65535).astype(np.uint16))
    back = cv2.resize(decoded(picture), (256, 256), interpolation=cv2.INTER_LINEAR) / 255
    assert np.abs(back - probability).max() < 0.05
    assert len(picture) < 1500


def test_an_image_becomes_smaller_and_never_larger() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
    assert decoded(jpeg(pixels, 150, 80)).shape == (150, 100)
    assert decoded(jpeg(pixels, 512, 80)).shape == (300, 200)
    assert len(jpeg(pixels, 150, 80)) < len(jpeg(pixels, 300, 80)) / 2


def test_a_thin_coloured_line_keeps_its_colour() -> None:
    figure = np.full((60, 60, 3), 90, np.uint8)
    figure[30] = (233, 180, 86)  # blue, green, red
    png = cv2.imencode(".png", figure)[1].tobytes()
    line = decoded(jpeg_of_png(png), cv2.IMREAD_COLOR)[30].astype(int)
    assert np.abs(line - figure[30]).max() < 25
    assert photo_uri(png).startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="is not a readable PNG"):
        jpeg_of_png(data)


def test_a_script_is_named_by_its_text() -> None:
    # echo -n 'alert(1)' | openssl dgst -sha256 -binary | base64
    assert script_source("alert(1)") == "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
