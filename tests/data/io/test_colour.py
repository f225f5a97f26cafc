"""Pictures read in colour: values worked by hand, and transparency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from eus_ray.data.io.images import Remark, decode, read_image, to_uint8
from eus_ray.errors import UserError
from tests.data.io.writers import pillow, tiff

COLOUR = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)
DEEP = COLOUR.astype(np.uint16) * 257


def rgb(content: bytes) -> npt.NDArray[Any]:
    return decode(content).pixels("rgb")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_colours_are_red_first_and_gray_is_repeated(kind: str) -> None:
    assert (rgb(pillow(Image.fromarray(COLOUR), kind)) == COLOUR).all()
    gray = COLOUR[..., 0]
    repeated = rgb(pillow(Image.fromarray(gray), kind))
    assert repeated.shape == (12, 20, 3)
    assert all((repeated[..., channel] == gray).all() for channel in range(3))


def test_a_palette_gives_its_colours() -> None:
    picture = Image.fromarray(COLOUR[..., 0] % 2, mode="P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    expected = np.where(COLOUR[..., :1] % 2, [200, 100, 50], [10, 20, 30])
    assert (rgb(pillow(picture)) == expected).all()


def test_sixteen_bits_are_mapped_by_the_extremes_of_all_three_colours() -> None:
    colours = np.zeros((2, 2, 3), np.uint16)
    colours[0, 0], colours[0, 1], colours[1, 0] = (1000, 2000, 3000), (6100, 1000, 1000), (3550, 3550, 3550)
    colours[1, 1] = 1000
    decoded = rgb(tiff(colours, photometric="rgb"))
    assert decoded.dtype == np.uint16
    assert (decoded == colours).all()
    # from 1000 to 6100 in 255 steps of 20
    mapped = to_uint8(decoded, "auto")
    assert mapped.tolist() == [[[0, 50, 100], [255, 0, 0]], [[128, 128, 128], [0, 0, 0]]]
    assert to_uint8(decoded, (1000, 3550)).tolist()[0] == [[0, 100, 200], [255, 0, 0]]
    assert (to_uint8(np.full((2, 2, 3), 777, np.uint16), "auto") == 0).all()


def test_jpegs_of_three_and_four_colours() -> None:
    plain = Image.new("RGB", (32, 32), (200, 60, 30))
    assert np.abs(rgb(pillow(plain, "JPEG")).astype(int) - (200, 60, 30)).max() <= 4
    ink = Image.new("CMYK", (32, 32), (55, 195, 225, 0))  # each colour is 255 less its ink
    picture = decode(pillow(ink, "JPEG", quality=95))
    assert np.abs(picture.pixels("rgb").astype(int) - (200, 60, 30)).max() <= 4
    assert picture.remarks == (Remark.CMYK,)


def test_transparency_is_refused_in_colour_and_ignored_in_gray(tmp_path: Path) -> None:
    def with_alpha(alpha: int, pixel: int, deep: bool = False) -> bytes:
        layer = np.full(COLOUR.shape[:2], alpha, np.uint16 if deep else np.uint8)
        layer[3, 4] = pixel
        if deep:
            return tiff(np.dstack([DEEP, layer]), photometric="rgb", extrasamples=["unassalpha"])
        return pillow(Image.fromarray(np.dstack([COLOUR, layer])))

    assert (rgb(with_alpha(255, 255)) == COLOUR).all()
    assert (rgb(with_alpha(65535, 65535, deep=True)) == DEEP).all()
    for content in (with_alpha(255, 254), with_alpha(128, 128), with_alpha(0, 0), with_alpha(65535, 65534, deep=True)):
        assert decode(content).pixels("gray").shape == (12, 20)
        with pytest.raises(ValueError, match="is transparent, and its colours depend on what lies behind it"):
            rgb(content)
    gray = np.dstack([COLOUR[..., 0], np.full((12, 20), 9, np.uint8)])
    (tmp_path / "a.png").write_bytes(pillow(Image.fromarray(gray, "LA")))
    assert (read_image(tmp_path / "a.png") == COLOUR[..., 0]).all()
    with pytest.raises(UserError, match=r"a\.png: is transparent.*save it without transparency \(alpha\)"):
        read_image(tmp_path / "a.png", channels="rgb")


def test_a_transparent_colour_of_a_palette_is_refused_in_colour() -> None:
    picture = Image.fromarray(COLOUR[..., 0] % 2, mode="P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    with pytest.raises(ValueError, match="is transparent"):
        rgb(pillow(picture, transparency=1))


def test_colours_are_turned_as_viewers_show_them() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    assert (rgb(pillow(Image.fromarray(COLOUR), "PNG", exif=exif)) == np.rot90(COLOUR, -1)).all()
