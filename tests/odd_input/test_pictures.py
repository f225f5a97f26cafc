"""Odd pictures, as `data check` reads them: one decoder, so other commands say the same."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.odd_input.odd import Odd, run
from tests.odd_input.writers import a_set, mask, picture, put, save, save_as, with_files

CHECK = "data check ~/m.csv"
SOUND = "6 images of 6 patients, nothing wrong"
SHAPE_OF_LESION = mask() != 0


def row(
    name: str,
    suffix: str,
    change: Callable[[Path], object],
    code: int,
    *said: str,
    kind: str = "images",
) -> Odd:
    """A set whose first image or mask is the file that `change` writes."""
    cells = [f"{kind}/odd{suffix}", *[f"{kind}/{n}.png" for n in range(1, 6)]]
    made = with_files(lambda here: change(here / cells[0]), **{kind[:-1]: cells})
    return Odd(f"{kind[:-1]}: {name}", made, CHECK, code, said or (SOUND,))


def masks_row(name: str, suffix: str, change: Callable[[Path], object], code: int, *said: str) -> Odd:
    return row(name, suffix, change, code, *said, kind="masks")


def palette(path: Path, colours: list[int], pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels, "P")
    image.putpalette(colours)
    image.save(path)


def oriented(path: Path, pixels: np.ndarray, orientation: int = 3) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def with_text(path: Path) -> None:
    info = PngInfo()
    info.add_text("Comment", "x" * (2 << 20), zip=True)
    Image.fromarray(picture()).save(path, pnginfo=info)


def huge(path: Path) -> None:
    """A PNG of 30,000 x 30,000 pixels by its header."""
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")]
    put(path, b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ))  # fmt: skip


def animated(path: Path) -> None:
    frames = [Image.fromarray(picture(n)) for n in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def with_thumbnail(path: Path) -> None:
    whole = [Image.fromarray(picture(n)) for n in range(2)]
    whole[0].save(path, "MPO", save_all=True, append_images=whole[1:])


def cut(path: Path, suffix: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, suffix)
    put(path, stream.getvalue()[: len(stream.getvalue()) * 2 // 3])


def colour(*shares: float) -> np.ndarray:
    return np.dstack([(picture() * share).astype(np.uint8) for share in shares])


def rgb_mask(lesion: tuple[int, int, int], ground: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    return np.where(SHAPE_OF_LESION[..., None], lesion, ground).astype(np.uint8)


deep = picture().astype(np.float64) / 7
IMAGES = [
    row("G1 int64", ".tif", lambda path: save(path, picture().astype(np.int64)), 0),
    row("G1 float64", ".tif", lambda path: save(path, deep), 0),
    row("G1 float16", ".tif", lambda path: save(path, deep.astype(np.float16)), 0),
    row("int16 below 0", ".tif", lambda path: save(path, picture().astype(np.int16) - 90), 0),
    row("12 bits in 16", ".png", lambda path: save(path, picture().astype(np.uint16) * 16), 0),
    row("not a number", ".tif", lambda path: save(path, np.where(picture() > 99, np.nan, deep).astype(np.float32)), 2,
        "row 2: image images/odd.tif has gray values that are not finite"),
    row("complex", ".tif", lambda path: save(path, deep.astype(np.complex64)), 2, "are not read; save it with 8 or 16"),
    row("G1 two channels", ".tif",
        lambda path: save(path, np.stack([picture(), picture(9)]), photometric="minisblack", planarconfig="separate"),
        2, "save "),
    row("pages", ".tif", lambda path: save(path, np.stack([picture(), picture(9)]), photometric="minisblack"), 2,
        "holds 2 pages; save each picture as a file of its own"),
    row("G2 long text", ".png", with_text, 0),
    row("G3 more than any limit", ".png", huge, 2, "is 30,000 × 30,000 pixels", "crop it, or save it smaller"),
    row("G4 camera's thumbnail", ".jpg", with_thumbnail, 0, "with a second, embedded picture, such as a thumbnail"),
    row("A3 turned by EXIF", ".jpg", lambda path: oriented(path, picture()), 0,
        "images/odd.jpg: is a file with a flag of orientation: the picture was turned as viewers show it"),
    row("turned by EXIF in a PNG", ".png", lambda path: oriented(path, picture()), 0, "with a flag of orientation"),
    row("turned by a quarter", ".jpg", lambda path: oriented(path, picture(), 6), 2,
        "is 40 × 48 pixels (rows × columns), its image 48 × 40; one of them is turned"),
    row("turned by a tag", ".tif", lambda path: save(path, picture(), extratags=[(274, 3, 1, 3, True)]), 0,
        "with a flag of orientation"),
    row("white is zero", ".tif", lambda path: save(path, picture(), photometric="miniswhite"), 0,
        "with a note that 0 is white: the values were taken as stored"),
    row("GIF named PNG", ".png", lambda path: save_as(path, picture(), "GIF"), 2,
        "is a GIF, which is not read; save it as PNG"),
    row("WebP named JPEG", ".jpg", lambda path: save_as(path, picture(), "WEBP"), 2, "is a WebP image"),
    row("JPEG named PNG", ".png", lambda path: save_as(path, picture(), "JPEG"), 0),
    row("BMP named PNG", ".png", lambda path: save_as(path, picture(), "BMP"), 0),
    row("TIFF named PNG", ".png", lambda path: save_as(path, picture(), "TIFF"), 0),
    row("PNG without suffix", "", lambda path: save_as(path, picture(), "PNG"), 0),
    row("suffix in capitals", ".PNG", lambda path: save_as(path, picture(), "PNG"), 0),
    row("DICOM", ".dcm", lambda path: put(path, bytes(128) + b"DICM" + bytes(99)), 2, "is a DICOM file"),
    row("NIfTI", ".nii.gz", lambda path: put(path, b"\x1f\x8b" + bytes(99)), 2, "is a gzip archive, such as a NIfTI"),
    row("text", ".png", lambda path: put(path, "not a picture"), 2, "is not a PNG, JPEG, TIFF or BMP image"),
    row("animation", ".png", animated, 2, "is an animation; save each picture as a file of its own"),
    row("cut PNG", ".png", lambda path: cut(path, "PNG"), 2, "is damaged or cut short"),
    row("cut JPEG", ".jpg", lambda path: cut(path, "JPEG"), 2, "is damaged or cut short"),
    row("cut TIFF", ".tif", lambda path: cut(path, "TIFF"), 2, "is damaged or cut short"),
    row("cut BMP", ".bmp", lambda path: cut(path, "BMP"), 2, "is damaged or cut short"),
    row("four colours", ".jpg", lambda path: Image.fromarray(picture()).convert("CMYK").save(path), 0,
        "with CMYK colours: they were made RGB without a colour profile"),
    row("colour of 16 bits", ".tif", lambda path: save(path, colour(1, 1, 0.5).astype(np.uint16) * 256,
                                                      photometric="rgb"), 0),
    row("transparent", ".png", lambda path: save(path, np.dstack([colour(1, 1, 1), mask()])), 0,
        "with transparency, which was ignored"),
    row("opaque", ".png", lambda path: save(path, np.dstack([colour(1, 1, 1), mask() * 0 + 255])), 0),
    row("palette", ".png", lambda path: palette(path, [n for n in range(256) for _ in range(3)], picture()), 0),
]  # fmt: skip

MASKS = [
    masks_row("A1 one bit, 0 is white", ".tif",
              lambda path: save(path, SHAPE_OF_LESION, photometric="miniswhite"), 0,
              "with a note that 0 is white: the values were taken as stored"),
    masks_row("A1 one bit", ".tif", lambda path: save(path, SHAPE_OF_LESION, photometric="minisblack"), 0),
    masks_row("one bit", ".png", lambda path: save(path, SHAPE_OF_LESION), 0),
    masks_row("1 of 255", ".png", lambda path: save(path, mask(value=1)), 0),
    masks_row("16 bits", ".png", lambda path: save(path, mask().astype(np.uint16) * 257), 0),
    masks_row("floats", ".tif", lambda path: save(path, mask(value=1).astype(np.float32)), 0),
    masks_row("JPEG", ".jpg", lambda path: save(path, mask()), 2,
              "mask masks/odd.jpg is a JPEG, which blurs a mask's values; save masks as PNG"),
    masks_row("JPEG named PNG", ".png", lambda path: save_as(path, mask(), "JPEG"), 2, "is a JPEG, which blurs"),
    masks_row("three values", ".png", lambda path: save(path, mask(value=1) + mask(4, 1)), 2,
              "is not a mask: it has 3 gray values; a mask has 0 and one other value"),
    masks_row("smooth edges", ".png", lambda path: save(path, picture()), 2, "a mask has 0 and one other value"),
    masks_row("1 and 2", ".png", lambda path: save(path, mask(value=1) + 1), 2,
              "has the values 1 and 2; the background must be 0"),
    masks_row("white", ".png", lambda path: save(path, rgb_mask((255, 255, 255))), 0),
    masks_row("red", ".png", lambda path: save(path, rgb_mask((255, 0, 0))), 0),
    masks_row("dark blue on black", ".png", lambda path: save(path, rgb_mask((0, 0, 3))), 2,
              "has colours that are equal in gray"),
    masks_row("shape in transparency", ".png", lambda path: save(path, np.dstack([rgb_mask((0, 0, 0)), mask()])), 2,
              "has its shape in the transparency channel; save it as gray PNG, 0 and 255"),
    masks_row("palette", ".png", lambda path: palette(path, [0, 0, 0, 255, 0, 0], mask(value=1)), 0),
    masks_row("palette in which 0 is white", ".png",
              lambda path: palette(path, [255, 255, 255, 0, 0, 0], mask(value=1)), 0,
              "in 1 of 6 masks the lesion covers most of the image or all its corners, such as masks/odd.png"),
    masks_row("palette of two blacks", ".png",
              lambda path: palette(path, [0, 0, 0, 0, 0, 0, 9, 9, 9], mask(value=1)), 2, "equal in gray"),
    masks_row("turned as its image is not", ".png", lambda path: oriented(path, mask()), 0,
              "masks/odd.png: is a file with a flag of orientation"),
    masks_row("two pages", ".tif", lambda path: save(path, np.stack([mask(), mask(3)]), photometric="minisblack"), 2,
              "holds 2 pages"),
    masks_row("array", ".npy", lambda path: np.save(path, mask()), 2, "is a NumPy array, which is not read"),
]  # fmt: skip


@pytest.mark.parametrize("odd", [*IMAGES, *MASKS], ids=lambda odd: odd.name)
def test_odd_pictures(
    odd: Odd, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run(odd, tmp_path, capfd, caplog)


def test_remarks_are_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Many files of a kind are one line."""

    def change(here: Path) -> None:
        for n in range(6):
            oriented(here / f"images/{n}.png", picture(n))

    said = ("6 files with a flag of orientation: the picture was turned as viewers show it; such as images/0.png",)
    run(Odd("", with_files(change), CHECK, 0, said), tmp_path, capfd, caplog)


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_a_boolean_tiff_is_the_array_that_was_written(
    photometric: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """18 x 10 of 40 x 48 pixels are lesion: 9.375 %."""
    made = a_set(mask=["masks/0.tif", *[f"masks/{n}.png" for n in range(1, 6)]])

    def make(here: Path) -> None:
        made(here)
        tifffile.imwrite(here / "masks/0.tif", SHAPE_OF_LESION, photometric=photometric)

    def check(here: Path, _: str) -> None:
        from eus_ray.data.manifest import read_manifest

        frame: pd.DataFrame = read_manifest(here / "m.csv").frame
        assert frame["lesion_share"].tolist() == [180 / 1920] * 6

    run(Odd("", make, CHECK, 0, ("6 images of 6 patients",), check), tmp_path, capfd, caplog)
