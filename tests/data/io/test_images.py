"""Decoding: values worked by hand, and what is refused."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageOps

from eus_ray.data.io.images import Remark, decode, read_image, to_uint8
from eus_ray.errors import UserError
from tests.data.io.writers import SIGNATURE, chunk, patched, pillow, png, tiff


def encoded(pixels: npt.NDArray[np.generic], suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Any:
    """No library writes a line of its own."""
    yield
    assert capfd.readouterr() == ("", "")


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


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """As Pillow turns it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(io.BytesIO(pillow(Image.fromarray(pixels), exif=exif)))
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_image_and_mask_are_turned_as_viewers_show_them(format: str, orientation: int) -> None:
    def written(pixels: npt.NDArray[Any]) -> bytes:
        if format == "TIFF":
            return tiff(pixels, extratags=[(0x0112, 3, 1, orientation, True)])
        exif = Image.Exif()
        exif[0x0112] = orientation
        return pillow(Image.fromarray(pixels), format, exif=exif)

    picture = decode(written(GRAY))
    stored = np.asarray(Image.open(io.BytesIO(written(GRAY)))) if format == "JPEG" else GRAY
    expected = turned(stored, orientation)
    assert np.array_equal(picture.gray, expected)
    assert picture.remarks == ((Remark.TURNED,) if 2 <= orientation <= 8 else ())
    if format != "JPEG":
        mask = decode(written(LESION))
        assert (mask.mask() == turned(LESION, orientation)).all()
        assert (mask.labels() == turned(LESION, orientation)).all()
        colours = np.dstack([GRAY, 255 - GRAY, GRAY // 2, GRAY])
        clear = decode(written(colours))
        assert clear.alpha is not None
        assert (clear.alpha == expected).all()
        assert clear.colour is not None
        assert (clear.colour == turned(colours, orientation)[..., :3]).all()


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


# ---- what is refused, and what is read all the same -------------------------------------------------

IMAGE = Image.fromarray(GRAY)
STACK = np.stack([GRAY] * 5)
HUGE = struct.pack(">II", 20_000, 20_000)


def huge_tiff() -> bytes:
    content = tiff(GRAY)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        places = [file.pages.first.tags[code].valueoffset for code in (256, 257)]
    for place in places:
        content = patched(content, place, struct.pack("<H", 20_000))
    return content


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty (0 bytes)"),
        (b"image,mask,patient_id\n", "is not a PNG, JPEG, TIFF or BMP image: its first bytes are not those of one"),
        (tiff(STACK, photometric="minisblack"), "holds 5 pages; save each picture as a file of its own"),
        (tiff(STACK, imagej=True), "holds 5 pages; save each picture as a file of its own"),
        (tiff(STACK, volumetric=True), "holds 5 pages; save each picture as a file of its own"),
        (tiff(STACK, truncate=True), "holds 5 pages; save each picture as a file of its own"),
        (
            pillow(IMAGE, "PNG", save_all=True, append_images=[Image.fromarray(255 - GRAY)]),
            "is an animation; save each picture as a file of its own",
        ),
        (
            tiff(np.dstack([GRAY] * 2), photometric="minisblack", planarconfig="contig"),
            "has 2 channels, and which of them is the picture is not said; save one of them as gray",
        ),
        (
            pillow(IMAGE.convert("CMYK"), "TIFF"),
            "is a TIFF of CMYK colours, which are not read; save it as RGB or gray",
        ),
        (
            pillow(Image.new("LAB", (9, 7)), "TIFF"),
            "is a TIFF of CIELAB colours, which are not read; save it as RGB or gray",
        ),
        (
            pillow(IMAGE.convert("YCbCr"), "TIFF"),
            "is a TIFF of YCBCR colours, which are not read; save it as RGB or gray",
        ),
        (tiff(GRAY.astype(np.complex64)), "holds values of 64 bits that are not read; save it with 8 or 16 bits"),
        (tiff(np.where(GRAY > 7, np.float32(np.inf), 1)), "has gray values that are not finite"),
        (pillow(IMAGE, "GIF"), "is a GIF, which is not read; save it as PNG"),
        (pillow(IMAGE, "WEBP"), "is a WebP image, which is not read; save it as PNG"),
        (pillow(IMAGE, "JPEG2000"), "is a JPEG 2000 image, which is not read; save it as PNG"),
        (bytes(128) + b"DICM" + bytes(99), "is a DICOM file, which is not read; save it as PNG"),
        (b"\0\0\0\x18ftypheic", "is an HEIC image or a video, which is not read; save it as PNG"),
        (b"\x1f\x8b\x08\0", "is a gzip archive, such as a NIfTI volume, which is not read; save it as PNG"),
        (b"\x93NUMPY\x01\0", "is a NumPy array, which is not read; save it as PNG"),
        (b"%PDF-1.7", "is a PDF, which is not read; save it as PNG"),
        (b"PK\x03\x04", "is a ZIP archive, which is not read; save it as PNG"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_sound_file_that_is_not_read_is_told_for_what_it_is(content: bytes, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        decode(content)


@pytest.mark.parametrize(
    "content",
    [
        SIGNATURE + chunk(b"IHDR", HUGE + bytes([8, 0, 0, 0, 0])) + png(GRAY, 8, 0)[33:],
        huge_tiff(),
        patched(pillow(IMAGE, "BMP"), 18, struct.pack("<ii", 20_000, 20_000)),
    ],
    ids=["PNG", "TIFF", "BMP"],
)
def test_too_many_pixels_are_told_from_the_header(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^is 20,000 × 20,000 pixels .*at most 268 million are read; crop it"):
            decode(content)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_a_jpeg_of_too_many_pixels() -> None:
    content = pillow(IMAGE, "JPEG")
    sizes = content.index(b"\xff\xc0") + 5
    with pytest.raises(ValueError, match=r"^is 60,000 × 60,000 pixels"):
        decode(patched(content, sizes, struct.pack(">HH", 60_000, 60_000)))


def test_texts_and_profiles_do_not_matter() -> None:
    long = chunk(b"tEXt", b"Comment\0" + bytes(100_000_000))
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(90_000_000), 1))
    profile = chunk(b"iCCP", b"name\0\0" + zlib.compress(b"no profile"))
    for content in (
        png(GRAY, 8, 0, before=long),
        png(GRAY, 8, 0, before=bomb + profile, after=long),
        pillow(IMAGE, "PNG", exif=b"no EXIF at all"),
        pillow(IMAGE, "TIFF", icc_profile=b"no profile"),
        png(GRAY, 8, 0) + b"what follows the end",
    ):
        assert (decode(content).gray == GRAY).all()
    for extra in ({"icc_profile": b"no profile"}, {"exif": b"Exif\0\0no EXIF at all"}):
        assert decode(pillow(IMAGE, "JPEG", **extra)).gray.shape == GRAY.shape


def test_a_file_cut_short_anywhere_is_refused() -> None:
    deep = GRAY.astype(np.uint16) * 200
    for content in (
        png(GRAY, 8, 0),
        png(np.dstack([deep] * 3), 16, 2),
        tiff(GRAY),
        tiff(GRAY, compression="zlib", rowsperstrip=4),
        pillow(IMAGE, "BMP"),
        pillow(IMAGE, "JPEG"),
    ):
        for length in range(1, len(content) - 2, 7):
            with pytest.raises(ValueError, match=r"^is (damaged or cut short|not a PNG)|^holds|strips or tiles"):
                decode(content[:length])


def test_a_tiff_without_some_of_its_strips_is_refused() -> None:
    content = tiff(GRAY, rowsperstrip=4, compression="zlib")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages.first.tags
        length, counts = tags["ImageLength"].valueoffset, tags["StripByteCounts"].valueoffset
    with pytest.raises(ValueError, match=r"cut short \(strips or tiles are missing\)"):
        decode(patched(content, length, struct.pack("<H", 24)))
    with pytest.raises(ValueError, match=r"^leaves out strips or tiles; save it whole"):
        decode(patched(content, counts, b"\0\0"))


def test_a_jpeg_of_a_false_size_in_a_tiff_is_refused_at_once() -> None:
    content = tiff(np.zeros((64, 64), np.uint8), compression="jpeg", tile=(64, 64))
    assert decode(content).gray.shape == (64, 64)
    with pytest.raises(ValueError, match=r"a part has 60000 × 60000 pixels for 64 × 64"):
        decode(patched(content, content.index(b"\xff\xc0") + 5, struct.pack(">HH", 60_000, 60_000)))
