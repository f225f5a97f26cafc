"""Pictures small enough for a report that is one file: images, probability maps, figures with photographs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.unsignedinteger[Any]]

MAP_SIDE = 96
"""Longest side of a probability map's picture, in pixels: maps are smooth, so that more shows nothing more."""
_MAP_QUALITY = 60
_FIGURE_QUALITY = 88


def jpeg(pixels: npt.NDArray[np.uint8], side: int, quality: int) -> bytes:
    """A gray image `(H, W)` as JPEG, made smaller where its longest side is more than `side` pixels."""
    return _encode(_at_most(pixels, side), quality)


def probability_jpeg(levels: npt.NDArray[np.uint16]) -> bytes:
    """A stored probability map `(H, W)`, 65535 is 1, as a small gray JPEG in which 255 is 1."""
    return _encode(np.rint(_at_most(levels, MAP_SIDE) / 257).astype(np.uint8), _MAP_QUALITY)


def jpeg_of_png(png: bytes) -> bytes:
    """A figure in colour as JPEG with all of its colour: coloured lines on photographs stay sharp.

    Raises `ValueError` where the bytes are no picture.
    """
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) if png else None
    if pixels is None:
        raise ValueError("is not a readable PNG")
    return _encode(
        np.asarray(pixels, np.uint8),
        _FIGURE_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    )


def _at_most(pixels: Gray, side: int) -> Gray:
    """The picture `(H, W)` with its longest side at most `side`; each new pixel is the mean of those it covers."""
    scale = side / max(pixels.shape)
    if scale >= 1:
        return pixels
    height, width = (max(1, round(length * scale)) for length in pixels.shape)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))


def _encode(pixels: Gray, quality: int, *more: int) -> bytes:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1, *more]
    return cv2.imencode(".jpg", pixels, parameters)[1].tobytes()
