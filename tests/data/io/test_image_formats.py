"""What a file stores, at every format and depth: written by independent writers, read as they were given it.

PNG of odd depths is packed here by hand; the rest is written by tifffile, Pillow, imageio and OpenCV.
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import cv2
import imageio.v3 as imageio
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from eus_ray.data.io.images import Picture, Remark, decode
from tests.data.io.writers import Pixels, chunk, pillow, png, tiff, values

FEW = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
sides = st.integers(1, 37)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Any:
    """No library writes a line of its own."""
    yield
    assert capfd.readouterr() == ("", "")


def luma(colour: Pixels) -> Pixels:
    """ITU-R 601, as numbers."""
    return colour[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def assert_gray_of(picture: Picture, colour: Pixels) -> None:
    """Colour is kept, and its gray is right to a step of the depth."""
    assert picture.colour is not None
    assert (picture.colour == colour[..., :3]).all()
    steps = {np.uint8: 1, np.uint16: 2}.get(colour.dtype.type)  # OpenCV and Pillow round by fixed point
    top = np.abs(colour.astype(np.float64)).max()
    assert np.abs(picture.gray.astype(np.float64) - luma(colour)).max() <= (top * 1e-6 if steps is None else steps)


def assert_masks(write: Any, shape: tuple[int, int], high: Any, dtype: npt.DTypeLike, seed: int) -> None:
    """A mask of 0 and `high` is read as 0 and 1, and its labels as stored."""
    lesion = values(seed, shape, bool)
    stored = lesion.astype(dtype) * np.array(high, dtype)
    picture = decode(write(stored))
    assert picture.mask().dtype == np.uint8
    assert (picture.mask() == lesion).all()
    assert (picture.labels() == stored).all()
    assert not picture.remarks


# ---- PNG by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@FEW
@given(seed=seeds, height=sides, width=sides, is_interlaced=st.booleans())
def test_png_gray(bits: int, seed: int, height: int, width: int, is_interlaced: bool) -> None:
    dtype = np.uint16 if bits == 16 else np.uint8
    pixels = values(seed, (height, width), dtype, bits)
    picture = decode(png(pixels, bits, 0, is_interlaced=is_interlaced))
    assert picture.stored.dtype == picture.gray.dtype == dtype
    assert (picture.stored == pixels).all()
    assert (picture.gray == pixels * dtype(255 // (2**bits - 1) if bits < 8 else 1)).all()
    assert_masks(lambda mask: png(mask, bits, 0), (height, width), 2**bits - 1, dtype, seed)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("kind", "channels"), [(4, 2), (2, 3), (6, 4)], ids=["LA", "RGB", "RGBA"])
@FEW
@given(seed=seeds, height=sides, width=sides, is_interlaced=st.booleans())
def test_png_channels(
    bits: int, kind: int, channels: int, seed: int, height: int, width: int, is_interlaced: bool
) -> None:
    dtype = np.uint16 if bits == 16 else np.uint8
    pixels = values(seed, (height, width, channels), dtype)
    picture = decode(png(pixels, bits, kind, is_interlaced=is_interlaced))
    if channels == 2:
        assert (picture.gray == pixels[..., 0]).all()
        assert (picture.stored == pixels[..., 0]).all()
    else:
        assert_gray_of(picture, pixels)
    if channels in (2, 4):
        assert picture.alpha is not None
        assert (picture.alpha == pixels[..., -1]).all()
        assert (Remark.TRANSPARENT in picture.remarks) == (len(np.unique(pixels[..., -1])) > 1)
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@FEW
@given(seed=seeds, height=sides, width=sides, is_interlaced=st.booleans())
def test_png_palette(bits: int, seed: int, height: int, width: int, is_interlaced: bool) -> None:
    pixels = values(seed, (height, width), np.uint8, bits)
    colours = values(seed, (2**bits, 3), np.uint8)
    picture = decode(png(pixels, bits, 3, chunk(b"PLTE", colours.tobytes()), is_interlaced=is_interlaced))
    assert picture.is_palette
    assert (picture.labels() == pixels).all()
    assert_gray_of(picture, colours[pixels])
    grays = chunk(b"PLTE", bytes([0, 0, 0, 255, 255, 255]))
    assert (decode(png(pixels % 2, bits, 3, grays)).mask() == pixels % 2).all()


@FEW
@given(seed=seeds, height=sides, width=sides)
def test_png_of_other_writers(seed: int, height: int, width: int) -> None:
    pixels = values(seed, (height, width, 3), np.uint8)
    assert_gray_of(decode(imageio.imwrite("<bytes>", pixels, extension=".png")), pixels)
    deep = values(seed, (height, width, 4), np.uint16)
    swapped = np.ascontiguousarray(deep[..., [2, 1, 0, 3]])
    assert_gray_of(decode(cv2.imencode(".png", swapped)[1].tobytes()), deep)
    gray = deep[..., 0]
    assert (decode(pillow(Image.fromarray(gray), "PNG")).stored == gray).all()
    assert (decode(pillow(Image.fromarray(gray > 999), "PNG")).mask() == (gray > 999)).all()


# ---- TIFF -------------------------------------------------------------------------------------------

CODECS = (None, "zlib", "adobe_deflate", "lzw", "packbits", "zstd", "lzma")
LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"rowsperstrip": 1},
    {"rowsperstrip": 7},
    {"tile": (16, 16)},
    {"tile": (32, 16)},
)
KINDS = [f"{kind}{size}" for kind in ("uint", "int") for size in (8, 16, 32, 64)] + ["float16", "float32", "float64"]


files = st.fixed_dictionaries(
    {"byteorder": st.sampled_from("<>"), "bigtiff": st.booleans(), "metadata": st.sampled_from([None, {}])}
)


def predictor(dtype: npt.DTypeLike, codec: str | None, is_wanted: bool) -> dict[str, Any]:
    return (
        {"predictor": 3 if np.dtype(dtype).kind == "f" else 2} if is_wanted and codec not in (None, "packbits") else {}
    )


@pytest.mark.parametrize("dtype", KINDS)
@FEW
@given(
    seed=seeds,
    height=sides,
    width=sides,
    file=files,
    codec=st.sampled_from(CODECS),
    layout=st.sampled_from(LAYOUTS),
    is_predicted=st.booleans(),
    photometric=st.sampled_from(["minisblack", "miniswhite"]),
)
def test_tiff_gray(
    dtype: str,
    seed: int,
    height: int,
    width: int,
    file: dict[str, Any],
    codec: str | None,
    layout: dict[str, Any],
    is_predicted: bool,
    photometric: str,
) -> None:
    how = file | layout | predictor(dtype, codec, is_predicted) | {"compression": codec, "photometric": photometric}
    pixels = values(seed, (height, width), dtype)
    picture = decode(tiff(pixels, **how))
    assert picture.stored.dtype == picture.gray.dtype == dtype
    assert picture.stored.dtype.isnative
    assert (picture.stored == pixels).all()
    assert (picture.gray == pixels).all()
    assert (Remark.WHITE_IS_ZERO in picture.remarks) == (photometric == "miniswhite")
    high = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    how["photometric"] = "minisblack"
    assert_masks(lambda mask: tiff(mask, **how), (height, width), high, dtype, seed)


@pytest.mark.parametrize("photometric", [None, "minisblack", "miniswhite"])
@FEW
@given(
    seed=seeds,
    height=sides,
    width=sides,
    file=files,
    codec=st.sampled_from(CODECS),
    layout=st.sampled_from(LAYOUTS),
)
def test_tiff_of_one_bit_is_as_its_writer_had_it(
    photometric: str | None,
    seed: int,
    height: int,
    width: int,
    file: dict[str, Any],
    codec: str | None,
    layout: dict[str, Any],
) -> None:
    """By default tifffile stores a boolean array so, with a note that 0 is white."""
    lesion = values(seed, (height, width), bool)
    how = file | layout | ({} if photometric is None else {"photometric": photometric})
    content = tiff(lesion, compression=codec, **how)
    assert tifffile.TiffFile(io.BytesIO(content)).pages.first.bitspersample == 1
    picture = decode(content)
    assert (picture.labels() == lesion).all()
    assert (picture.gray == lesion * np.uint8(255)).all()
    assert (picture.mask() == lesion).all()
    assert (Remark.WHITE_IS_ZERO in picture.remarks) == (photometric == "miniswhite" or photometric is None)


@pytest.mark.parametrize("dtype", KINDS)
@FEW
@given(
    seed=seeds,
    height=sides,
    width=sides,
    file=files,
    codec=st.sampled_from(CODECS),
    layout=st.sampled_from(LAYOUTS),
    planes=st.sampled_from(["contig", "separate"]),
    channels=st.sampled_from([3, 4]),
    is_predicted=st.booleans(),
)
def test_tiff_colour(
    dtype: str,
    seed: int,
    height: int,
    width: int,
    file: dict[str, Any],
    codec: str | None,
    layout: dict[str, Any],
    planes: str,
    channels: int,
    is_predicted: bool,
) -> None:
    pixels = values(seed, (height, width, channels), dtype)
    how = file | layout | {"compression": codec, "planarconfig": planes, "photometric": "rgb"}
    written = pixels if planes == "contig" else np.moveaxis(pixels, -1, 0)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    picture = decode(tiff(written, **how, **extra, **predictor(dtype, codec, is_predicted)))
    assert_gray_of(picture, pixels)
    if channels == 4:
        assert picture.alpha is not None
        assert (picture.alpha == pixels[..., 3]).all()
    lesion = values(seed, (height, width), bool)
    stored = np.stack([lesion * np.uint8(255)] * 3, axis=-1 if planes == "contig" else 0)
    assert (decode(tiff(stored, **how)).mask() == lesion).all()


@FEW
@given(seed=seeds, height=sides, width=sides)
def test_tiff_palette(seed: int, height: int, width: int) -> None:
    pixels = values(seed, (height, width), np.uint8)
    colours = values(seed, (256, 3), np.uint8)
    content = tiff(pixels, photometric="palette", colormap=colours.T.astype(np.uint16) * 257)
    assert_gray_of(decode(content), colours[pixels])
    assert (decode(content).labels() == pixels).all()
    old = tiff(pixels, photometric="palette", colormap=colours.T.astype(np.uint16))
    assert_gray_of(decode(old), colours[pixels])  # some writers give 8 bits of 16


@pytest.mark.parametrize(
    "codec", ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw", "tiff_adobe_deflate", None]
)
@FEW
@given(seed=seeds, height=sides, width=sides)
def test_tiff_of_pillow(codec: str | None, seed: int, height: int, width: int) -> None:
    lesion = values(seed, (height, width), bool)
    assert (decode(pillow(Image.fromarray(lesion), "TIFF", compression=codec)).mask() == lesion).all()


def test_tiff_of_rare_codecs() -> None:
    pixels = values(3, (37, 29), np.uint8)
    assert (decode(tiff(pixels, compression="jpeg2000")).stored == pixels).all()
    for codec, name in (("png", "PNG"), ("jpegxl", "JPEGXL"), ("lerc", "LERC"), ("jpegxr", "JPEGXR_NDPI|JPEGXR")):
        with pytest.raises(ValueError, match=f"^is a TIFF with ({name}) compression, which is not read; save it with"):
            decode(tiff(pixels, compression=codec))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_in_a_tiff_is_an_image_and_no_mask(channels: int) -> None:
    pixels = np.full((32, 48, channels), 90, np.uint8).squeeze()
    picture = decode(tiff(pixels, compression="jpeg", photometric="rgb" if channels == 3 else "minisblack"))
    assert np.abs(picture.gray.astype(int) - 90).max() <= 2
    with pytest.raises(ValueError, match="is a JPEG, which blurs"):
        picture.mask()


# ---- BMP and JPEG -----------------------------------------------------------------------------------


@FEW
@given(seed=seeds, height=sides, width=sides)
def test_bmp(seed: int, height: int, width: int) -> None:
    pixels = values(seed, (height, width, 4), np.uint8)
    gray, lesion = pixels[..., 0], pixels[..., 0] > 127
    assert (decode(pillow(Image.fromarray(lesion), "BMP")).labels() == lesion).all()  # 1 bit
    assert (decode(cv2.imencode(".bmp", gray)[1].tobytes()).stored == gray).all()  # 8
    assert_gray_of(decode(pillow(Image.fromarray(pixels[..., :3]), "BMP")), pixels)  # 24
    assert_gray_of(decode(pillow(Image.fromarray(pixels), "BMP")), pixels)  # 32
    assert_gray_of(decode(cv2.imencode(".bmp", pixels[..., [2, 1, 0, 3]])[1].tobytes()), pixels)
    colours = Image.fromarray(gray, "P")
    colours.putpalette(values(seed, (256, 3), np.uint8).tobytes())
    picture = decode(pillow(colours, "BMP"))
    assert_gray_of(picture, np.asarray(colours.convert("RGB")))


@FEW
@given(seed=seeds, height=sides, width=sides)
def test_jpeg_is_what_another_decoder_makes_of_it(seed: int, height: int, width: int) -> None:
    pixels = cv2.GaussianBlur(values(seed, (height, width, 3), np.uint8), (9, 9), 0)
    for written in (pixels, pixels[..., 0]):
        content = imageio.imwrite("<bytes>", written, extension=".jpg", quality=95)
        picture = decode(content)
        other = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert (picture.colour is None) == (written.ndim == 2)
        assert np.abs(picture.content.astype(int) - (other[..., ::-1] if other.ndim == 3 else other)).max() <= 3
        with pytest.raises(ValueError, match="is a JPEG, which blurs"):
            picture.labels()


def test_a_png_with_too_few_rows_is_refused() -> None:
    pixels = values(1, (20, 30), np.uint8)
    whole = pillow(Image.fromarray(pixels))
    rows = b"".join(b"\0" + row.tobytes() for row in pixels[:11])
    with pytest.raises(ValueError, match=r"cut short \(rows are missing\)"):
        decode(whole[:33] + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND"))


def test_a_palette_without_clear_colours_is_not_transparent() -> None:
    image = Image.fromarray(values(1, (9, 9), np.uint8) % 2, "P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    buffers = [io.BytesIO(), io.BytesIO()]
    for buffer, clear in zip(buffers, (b"\xff\xff", b"\xff\x00"), strict=True):
        image.save(buffer, "PNG", transparency=clear)
    assert [decode(buffer.getvalue()).remarks for buffer in buffers] == [(), (Remark.TRANSPARENT,)]


def test_a_description_that_an_editor_left_does_not_make_a_stack() -> None:
    pixels = values(1, (40, 48), np.uint8)
    for description in ('{"shape": [80, 96]}', "ImageJ=1.53\nimages=5\nslices=5\n"):
        assert (decode(tiff(pixels, description=description, metadata=None)).gray == pixels).all()
    with pytest.raises(ValueError, match="holds 5 pages"):
        decode(tiff(np.stack([pixels] * 5), imagej=True))
