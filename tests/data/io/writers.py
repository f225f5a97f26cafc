"""Files of pictures for tests: by tifffile, by Pillow, and PNG of any depth packed by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

Pixels = npt.NDArray[Any]
SIGNATURE = b"\x89PNG\r\n\x1a\n"
INTERLACED = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def values(seed: int, shape: tuple[int, ...], dtype: npt.DTypeLike, bits: int | None = None) -> Pixels:
    """Values over the whole range of a type; the ends are frequent."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    low, high = (0, 2**bits - 1) if bits else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    drawn = rng.integers(low, high, shape, dtype, endpoint=True)
    return np.where(rng.random(shape) < 0.3, np.array([low, high], dtype)[rng.integers(2)], drawn)


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    pixels: Pixels, bits: int, kind: int, before: bytes = b"", after: bytes = b"", *, is_interlaced: bool = False
) -> bytes:
    """Pack a PNG without filters."""
    height, width = pixels.shape[:2]
    passes = INTERLACED if is_interlaced else ((0, 0, 1, 1),)
    parts = [part for y, x, dy, dx in passes if (part := pixels[y::dy, x::dx]).size]
    raw = b"".join(b"\0" + row.tobytes() for part in parts for row in packed(part, bits))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, is_interlaced))
    return SIGNATURE + header + before + chunk(b"IDAT", zlib.compress(raw)) + after + chunk(b"IEND")


def packed(pixels: Pixels, bits: int) -> Pixels:
    rows = pixels.reshape(len(pixels), -1)
    if bits >= 8:
        return rows.astype(f">u{bits // 8}").view(np.uint8)
    planes = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.reshape(len(pixels), -1).astype(np.uint8), axis=1)


def pillow(image: Image.Image, format: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def tiff(pixels: Pixels, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **settings)
    return buffer.getvalue()


def patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]
