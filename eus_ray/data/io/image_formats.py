"""What an image file stores, format by format: values, palette, transparency, flags. `images` says what is made of it.

PNG, JPEG and BMP are read by Pillow (colour PNG of 16 bits by imagecodecs, since Pillow keeps 8 of them), TIFF by
tifffile. The format's own class of Pillow is used, not `Image.open`: that takes a camera's JPEG with a thumbnail for
a stack, and has a limit of pixels for the whole process.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import operator
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

Values = npt.NDArray[Any]

MAX_PIXELS = 2**28
"""Of a picture, so that no small file fills the memory: 16,384 by 16,384."""
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHERS = (
    (0, b"GIF8", "a GIF"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "an HEIC image or a video"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"<svg", "an SVG drawing"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"NRRD", "an NRRD volume"),
    (0, b"\x1f\x8b", "a gzip archive, such as a NIfTI volume"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)
"""Files that are not read: place and value of the bytes that tell them, and their name."""
_ORIENTATION = 0x0112
_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND")
"""Of a PNG, those that its pixels need. Texts and colour profiles may be too long or wrong for a decoder."""
_INTERLACED = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""The passes of an interlaced PNG, see `_passes`."""
_NUM_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By a PNG's type of colour."""
_GRAYS = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MASK)
_SHAPE = re.compile(r'{"shape": \[(\d+(?:, \d+)*)\]')
"""In the description that tifffile writes."""
_JPEGS = (COMPRESSION.JPEG, COMPRESSION.OJPEG)
_CODECS = (
    *_JPEGS,
    *(COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.PACKBITS, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE),
    *(COMPRESSION.CCITTRLE, COMPRESSION.CCITT_T4, COMPRESSION.CCITT_T6, COMPRESSION.LZMA, COMPRESSION.ZSTD),
    *(COMPRESSION.JPEG2000, COMPRESSION.APERIO_JP2000_RGB, COMPRESSION.APERIO_JP2000_YCBC),
)
"""Of a TIFF. The decoders of others print lines of their own about damaged files, or believe any size in them."""

warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on metadata, which would be printed on the terminal


class RefusedError(ValueError):
    """A sound file that is not read."""


class CutShortError(ValueError):
    """A file without its end."""


@dataclass(frozen=True)
class Stored:
    """What a file stores, in the order in which it is stored."""

    values: Values
    """`(H, W)`, or `(H, W, 3)` red first, as the writer gave them: no scaling, no inversion."""
    bits: int
    """Of a value."""
    palette: npt.NDArray[np.uint8] | None = None
    """`(n, 3)`: the values are its indices."""
    alpha: Values | None = None
    has_transparency: bool = False
    orientation: int = 1
    """As EXIF and TIFF number them, 1 to 8; 1 is upright."""
    is_white_zero: bool = False
    is_lossy: bool = False
    is_cmyk: bool = False
    """Of a JPEG; the values are RGB."""
    has_more: bool = False
    """Another picture is embedded, such as a thumbnail."""


def read_stored(content: bytes) -> Stored:
    """Read the one picture of a file whole.

    Raises:
        RefusedError: If the file is sound and not read, such as one of another format or of several pictures.
        Exception: Of any kind, if the file is damaged or of a rare kind.
    """
    if not content:
        raise RefusedError("is empty (0 bytes)")
    for start, read in _READERS.items():
        if content.startswith(start):
            return read(content)
    for place, mark, name in _OTHERS:
        if content[place:].startswith(mark) if place else content.startswith(mark):
            raise RefusedError(f"is {name}, which is not read; save it as PNG")
    raise RefusedError("is not a PNG, JPEG, TIFF or BMP image: its first bytes are not those of one")


def _refuse_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise RefusedError(
            f"is {height:,} × {width:,} pixels (rows × columns), and at most {MAX_PIXELS / 1e6:.0f} million are read; "
            "crop it, or save it smaller"
        )
    if not height or not width:
        raise RefusedError(f"is {height} × {width} pixels (rows × columns)")


# ---- PNG, JPEG, BMP ---------------------------------------------------------------------------------


def _read_png(content: bytes) -> Stored:
    kept = [content[:8]]
    for name, chunk in _png_chunks(content):
        if name == b"acTL":
            raise RefusedError("is an animation; save each picture as a file of its own")
        if name in _CHUNKS:
            kept.append(chunk)
    if kept[-1][4:8] != b"IEND":
        raise CutShortError("its end is missing")
    plain = b"".join(kept)
    bits, kind = plain[24], plain[25]
    with PngImageFile(io.BytesIO(plain)) as image:
        stored = _of_pillow(image, bits)
    shape = (stored.values.shape[0], stored.values.shape[1])
    rows = _png_rows(plain, shape, bits * _NUM_CHANNELS[kind])
    if bits == 16 and kind != 0:
        deep = _deep_colour(plain, rows, shape)
        alpha = deep[..., -1] if deep.shape[2] in (2, 4) else None
        stored = replace(stored, values=deep[..., :3] if deep.shape[2] > 2 else deep[..., 0], alpha=alpha)
    return stored


def _png_rows(plain: bytes, shape: tuple[int, int], bits: int) -> list[bytes]:
    """Return the rows of each pass of a PNG with so many bits a pixel, still filtered.

    Raises:
        CutShortError: If rows are missing: Pillow fills them with 0.
    """
    sizes = []
    for y, x, dy, dx in _passes(plain):
        height, width = len(range(y, shape[0], dy)), len(range(x, shape[1], dx))
        sizes.append(height * (1 + -(-width * bits // 8)) * bool(width))
    packed = b"".join(chunk[8:-4] for name, chunk in _png_chunks(plain) if name == b"IDAT")
    rows = io.BytesIO(zlib.decompressobj().decompress(packed, sum(sizes)))
    passes = [rows.read(size) for size in sizes]
    if list(map(len, passes)) != sizes:
        raise CutShortError("rows are missing")
    return passes


def _passes(plain: bytes) -> tuple[tuple[int, int, int, int], ...]:
    """Return first row and column, and steps, of the passes of a PNG."""
    return _INTERLACED if plain[28] else ((0, 0, 1, 1),)


def _deep_colour(plain: bytes, passes: Sequence[bytes], shape: tuple[int, int]) -> Values:
    """Decode a PNG with colour of 16 bits.

    Each pass of the pixels is decoded as a picture of its own: libpng prints a line about any other kind of file.
    """
    deep = np.empty((*shape, _NUM_CHANNELS[plain[25]]), np.uint16)
    for (y, x, dy, dx), rows in zip(_passes(plain), passes, strict=True):
        if rows:
            part = deep[y::dy, x::dx]
            header = struct.pack(">IIBBBBB", part.shape[1], len(part), 16, plain[25], 0, 0, 0)
            chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
            part[:] = imagecodecs.png_decode(plain[:8] + b"".join(_chunk(*one) for one in chunks))
    return deep


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and bytes of each chunk, as far as they are whole."""
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunk = content[at : at + length + 12]
        if len(chunk) < length + 12:
            return
        yield chunk[4:8], chunk
        at += length + 12


def _read_jpeg(content: bytes) -> Stored:
    with JpegImageFile(io.BytesIO(content)) as image:
        return _of_pillow(image, 8, is_lossy=True, has_more="mp" in image.info)


def _read_bmp(content: bytes) -> Stored:
    with BmpImageFile(io.BytesIO(content)) as image:
        return _of_pillow(image, 1 if image.mode == "1" else 8)


def _of_pillow(image: ImageFile, bits: int, *, is_lossy: bool = False, has_more: bool = False) -> Stored:
    _refuse_size(image.height, image.width)
    image.load()
    palette, is_cmyk = None, image.mode == "CMYK"
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    elif image.mode in ("LAB", "HSV"):
        raise RefusedError(f"has {image.mode} colours, which are not read; save it as RGB or gray")
    elif image.mode not in ("1", "L", "LA", "I", "I;16", "I;16B", "RGB", "RGBA"):
        image = image.convert("RGB")  # type: ignore[assignment]
    values = np.asarray(image)
    alpha = values[..., -1] if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        values = values[..., 0] if image.mode == "LA" else values[..., :3]
    if image.mode.startswith("I"):
        values = values.astype(np.uint16)
    if bits < 8 and palette is None and image.mode != "1":
        values = values // np.uint8(255 // (2**bits - 1))  # Pillow scales them
    return Stored(
        values,
        bits,
        palette,
        alpha,
        has_transparency=_varies(alpha) or _has_clear_colours(image),
        orientation=_orientation_of(image),
        is_lossy=is_lossy,
        is_cmyk=is_cmyk,
        has_more=has_more,
    )


def _orientation_of(image: ImageFile) -> int:
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # of any kind: EXIF is damaged, which the pixels do not need
        return 1


def _has_clear_colours(image: ImageFile) -> bool:
    """Return whether some colours are transparent: a palette has a value for each."""
    clear = image.info.get("transparency")
    return set(clear) != {255} if isinstance(clear, bytes) else clear is not None


def _varies(alpha: Values | None) -> bool:
    return alpha is not None and bool((alpha != alpha.flat[0]).any())


# ---- TIFF -------------------------------------------------------------------------------------------


class _Silence(logging.Filter):
    """Drops what tifffile logs while this thread decodes: the error that is raised says it."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, _record: logging.LogRecord) -> bool:
        return not getattr(self.here, "is_decoding", False)


_silence = _Silence()
logging.getLogger("tifffile").addFilter(_silence)


def _read_tiff(content: bytes) -> Stored:
    _silence.here.is_decoding = True
    try:
        with TiffFile(io.BytesIO(content)) as file:
            return _of_tiff(file, content)
    finally:
        _silence.here.is_decoding = False


def _of_tiff(file: TiffFile, content: bytes) -> Stored:
    first = file.pages.first
    _refuse_size(operator.index(first.imagelength), operator.index(first.imagewidth))  # in a damaged file, bytes
    others = [page.aspage() for page in itertools.islice(file.pages, 1, 1000)]
    if len({page.offset for page in (first, *others)}) <= len(others):
        raise CutShortError("its pages follow each other in a circle")
    num_pictures = 1 + sum(not page.is_reduced and not page.is_mask for page in others)
    num_pictures = max(num_pictures, first.imagedepth, _num_described(file, first, content))
    if num_pictures > 1:
        raise RefusedError(f"holds {num_pictures} pages; save each picture as a file of its own")
    if first.compression not in _CODECS:
        name = getattr(first.compression, "name", None) or "unknown"
        raise RefusedError(f"is a TIFF with {name} compression, which is not read; save it with LZW or as PNG")
    if first.dtype is None or first.dtype.kind not in "biuf":
        raise RefusedError(f"holds values of {first.bitspersample} bits that are not read; save it with 8 or 16 bits")
    if any(at + size > len(content) for at, size in zip(first.dataoffsets, first.databytecounts, strict=True)):
        raise CutShortError("its end is missing")
    if len(first.dataoffsets) < math.prod(first.chunked):
        raise CutShortError("strips or tiles are missing")
    if not all(first.databytecounts):
        raise RefusedError("leaves out strips or tiles; save it whole")
    if first.compression in _JPEGS:
        _check_segments(first, content)
    colours = _num_colours(first)
    planes = first.asarray(squeeze=False, maxworkers=1)[:, 0]  # in this thread, which is silent
    layers = np.moveaxis(planes, 0, -1).reshape(first.imagelength, first.imagewidth, first.samplesperpixel)
    alpha = layers[..., colours] if layers.shape[2] > colours else None
    palette = None
    if first.photometric == PHOTOMETRIC.PALETTE:
        palette = np.asarray(first.colormap).T
        palette = (palette // 256 if palette.max() > 255 else palette).astype(np.uint8)
    return Stored(
        np.ascontiguousarray(layers[..., :3] if colours == 3 else layers[..., 0]),
        first.bitspersample,
        palette,
        alpha,
        has_transparency=_varies(alpha),
        orientation=orientation if isinstance(orientation := first.tags.valueof(_ORIENTATION, 1), int) else 1,
        is_white_zero=first.photometric == PHOTOMETRIC.MINISWHITE,
        is_lossy=first.compression in _JPEGS,
        has_more=bool(others),
    )


def _num_described(file: TiffFile, page: TiffPage, content: bytes) -> int:
    """Return how many pictures the description of a page tells of, if the file can hold them.

    ImageJ and tifffile write stacks under a single page, one picture after the other.
    """
    number = 1
    if file.is_imagej and file.imagej_metadata:
        number = int(file.imagej_metadata.get("images", 1))
    if shape := _SHAPE.match(page.description):
        number = max(number, math.prod(map(int, shape[1].split(","))) // max(page.size, 1))
    is_there = bool(page.dataoffsets) and page.dataoffsets[0] + number * page.nbytes <= len(content)
    return number if is_there or page.compression != COMPRESSION.NONE else 1


def _check_segments(page: TiffPage, content: bytes) -> None:
    """Raise an error if a JPEG in a TIFF is larger than its place, so that a false size does not fill the memory."""
    height, width = page.tilelength or page.imagelength, page.tilewidth or page.imagewidth
    for at, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        with JpegImageFile(io.BytesIO(content[at : at + size])) as segment:
            if segment.height > height or segment.width > width:
                raise ValueError(f"a part has {segment.height} × {segment.width} pixels for {height} × {width}")


def _num_colours(page: TiffPage) -> int:
    """Return how many of a pixel's samples are its colour, 1 or 3; the rest is transparency.

    Raises:
        RefusedError: If that is not known.
    """
    samples, kind = page.samplesperpixel, page.photometric
    is_colour = kind == PHOTOMETRIC.RGB or (kind == PHOTOMETRIC.YCBCR and page.compression in _JPEGS)
    if is_colour and samples >= 3:
        return 3
    if kind in (*_GRAYS, PHOTOMETRIC.PALETTE):
        if samples == 1 or (samples == 2 and page.extrasamples and int(page.extrasamples[0]) > 0):
            return 1
        raise RefusedError(
            f"has {samples} channels, and which of them is the picture is not said; save one of them as gray"
        )
    name = "CMYK" if kind == PHOTOMETRIC.SEPARATED else kind.name if isinstance(kind, PHOTOMETRIC) else "unknown"
    raise RefusedError(f"is a TIFF of {name} colours, which are not read; save it as RGB or gray")


_READERS: dict[bytes, Callable[[bytes], Stored]] = {
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"\xff\xd8\xff": _read_jpeg,
    b"BM": _read_bmp,
    **dict.fromkeys(_TIFF_STARTS, _read_tiff),
}
