"""Decoding: values worked by hand, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from eus_ray.data.io.images import decode, read_image, to_uint8
from eus_ray.errors import UserError


def encoded(pixels: npt.NDArray[np.generic], suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def pillow(picture: Image.Image, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format)
    return buffer.getvalue()


GRAY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
DEEP = GRAY.astype(np.uint16) * 200 + 7


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_formats_keep_gray_and_gray_as_colour(suffix: str) -> None:
    for pixels in (GRAY, np.dstack([GRAY] * 3)):
        assert (decode(encoded(pixels, suffix)).gray == GRAY).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept_in_gray_and_colour(suffix: str) -> None:
    for pixels in (DEEP, np.dstack([DEEP] * 3), np.dstack([DEEP] * 3 + [np.full_like(DEEP, 65535)])):
        decoded = decode(encoded(pixels, suffix)).gray
        assert decoded.dtype == np.uint16
        assert (decoded == DEEP).all()


def test_other_kinds_of_picture() -> None:
    assert np.abs(decode(encoded(np.full((16, 16), 77, np.uint8), ".jpg")).gray.astype(int) - 77).max() <= 1
    assert (decode(pillow(Image.fromarray(DEEP), "TIFF")).gray == DEEP).all()
    assert (decode(pillow(Image.fromarray(GRAY > 99))).gray == 255 * (GRAY > 99)).all()
    floats = (GRAY / 7).astype(np.float32)
    assert (decode(encoded(floats, ".tiff")).gray == floats).all()
    palette = Image.fromarray(GRAY % 2, mode="P")
    palette.putpalette([10, 10, 10, 200, 200, 200])
    assert (decode(pillow(palette)).gray == np.where(GRAY % 2, 200, 10)).all()
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert (decode(pillow(Image.fromarray(red))).gray == 76).all()  # 0.299 · 255


LESION = np.zeros((12, 20), np.uint8)
LESION[3:7, 5:9] = 1


@pytest.mark.parametrize(
    "content",
    [
        encoded(LESION),
        encoded(LESION * np.uint8(255)),
        encoded(LESION * np.uint16(65535)),
        encoded(np.dstack([0 * LESION, 0 * LESION, 255 * LESION]), ".bmp"),
        pillow(Image.fromarray(LESION > 0), "TIFF"),
    ],
    ids=["0-1", "0-255", "16-bit", "red", "1-bit"],
)
def test_masks_have_zero_and_one_other_value(content: bytes) -> None:
    mask = decode(content).mask()
    assert mask.dtype == np.uint8
    assert (mask == LESION).all()


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(LESION, "P")
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "content",
    [
        encoded(np.dstack([0 * LESION, 0 * LESION, LESION])),
        encoded(np.dstack([LESION, 0 * LESION, 0 * LESION]) + np.uint8(0)),
        encoded(np.dstack([0 * LESION, 0 * LESION, 0 * LESION + np.uint8(1)])),
        pillow(palette([0, 0, 0, 0, 0, 1])),
        pillow(palette([0, 0, 0, 0, 0, 0])),
    ],
    ids=["dark red", "dark blue", "dark everywhere", "dark in a palette", "black twice in a palette"],
)
def test_a_colour_that_is_black_in_gray_is_not_taken_for_background(content: bytes) -> None:
    with pytest.raises(ValueError, match="colours that are equal in gray"):
        decode(content).mask()


def test_empty_and_full_masks_are_legal() -> None:
    assert not decode(encoded(0 * LESION)).mask().any()
    assert decode(encoded(0 * LESION + np.uint8(255))).mask().all()


def test_gray_values() -> None:
    assert to_uint8(GRAY, "auto") is GRAY
    deep = np.array([[1000, 2000], [3000, 1500]], np.uint16)
    assert to_uint8(deep, "auto").tolist() == [[0, 128], [255, 64]]
    assert to_uint8(deep, (1500, 2500)).tolist() == [[0, 128], [255, 0]]
    assert to_uint8(np.array([[10, 20]], np.uint8), (10, 20)).tolist() == [[0, 255]]
    assert to_uint8(np.full((2, 2), 900, np.uint16), "auto").tolist() == [[0, 0], [0, 0]]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(GRAY)[:60])
    with pytest.raises(UserError, match=r"a\.png: is damaged or cut short"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"b\.png: cannot be read \(No such file"):
        read_image(tmp_path / "b.png")
