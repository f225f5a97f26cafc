"""Pictures small enough for a report in one file."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.unsignedinteger[Any]]

MAP_SIDE_PX = 96
"""Maps are smooth, so that more pixels show nothing more."""
_MAP_QUALITY = 60
_FIGURE_QUALITY = 88


def decode_png(png: bytes, mode: int = cv2.IMREAD_GRAYSCALE) -> npt.NDArray[np.uint8]:
    """Return an image from PNG bytes: gray `(H, W)` by default, in colour `(H, W, 3)`.

    Raises:
        ValueError: If the bytes are no picture.
    """
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), mode) if png else None
    if pixels is None:
        raise ValueError("is not a readable PNG")
    return np.asarray(pixels, np.uint8)


def jpeg(pixels: npt.NDArray[np.uint8], side: int, quality: int) -> bytes:
    """Return an image as JPEG: gray `(H, W)`, or colour `(H, W, 3)` with red first.

    It is made smaller if its longest side is more than `side` pixels.
    """
    smaller = _at_most(pixels, side)
    return _encode(smaller if smaller.ndim == 2 else smaller[..., ::-1], quality)


def probability_jpeg(levels: npt.NDArray[np.uint16]) -> bytes:
    """Return a stored probability map `(H, W)` as a small gray JPEG.

    Level 65535 and gray 255 are 1.
    """
    return _encode(np.rint(_at_most(levels, MAP_SIDE_PX) / 257).astype(np.uint8), _MAP_QUALITY)


def jpeg_of_png(png: bytes) -> bytes:
    """Return a figure in colour as JPEG, colour in full resolution.

    So coloured lines on photographs stay sharp.

    Raises:
        ValueError: If the bytes are no picture.
    """
    return _encode(
        decode_png(png, cv2.IMREAD_COLOR),
        _FIGURE_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    )


def _at_most(pixels: Gray, side: int) -> Gray:
    """Return the picture `(H, W)` or `(H, W, 3)` with its longest side at most `side`.

    Each new pixel is the mean of those it covers.
    """
    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))


def _encode(pixels: Gray, quality: int, *more: int) -> bytes:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1, *more]
    return cv2.imencode(".jpg", pixels, parameters)[1].tobytes()
