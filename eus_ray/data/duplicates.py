"""Duplicate images: exact copies, and near copies.

A near copy was saved again, rescaled or recompressed. An image under two patients lands in training and test, and the
test then measures memory. Copies are found in two steps: a 64-bit perceptual hash (pHash: signs of the low frequencies
of the cosine transform) within 4 bits proposes, correlation at a common size confirms. Cropped, mirrored or rotated
copies are other images to both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_HASH_BITS = 4
"""A copy at 90 % size and JPEG quality 70 differs by 2 bits at most."""
MIN_CORRELATION = 0.98
_THUMBNAIL_PIXELS = 64
_HASHES_AT_ONCE = 1024
"""With all others these comparisons, and the correlations of four times as many pairs, take tens of MB."""
_PAIRS_AT_ONCE = 4 * _HASHES_AT_ONCE


@dataclass(frozen=True)
class Look:
    """The features of an image by which it is compared with others.

    `digest` is that of its size and gray values; `phash` has 64 bits; `thumbnail (64, 64)` is uint8. An image of one
    gray value (`is_constant`) has nothing to recognise and is a copy of none.
    """

    digest: bytes
    phash: int
    thumbnail: npt.NDArray[np.uint8]
    is_constant: bool


@dataclass(frozen=True)
class Copy:
    """Two images that are one, `first < second`; exact if every gray value is equal."""

    first: int
    second: int
    is_exact: bool
    correlation: float


def look(image: npt.NDArray[np.uint8]) -> Look:
    """Return the features of an image, gray `(H, W)` uint8."""
    bits = imagehash.phash(Image.fromarray(image), hash_size=8).hash
    digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
    thumbnail = cv2.resize(image, (_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS), interpolation=cv2.INTER_AREA)
    phash = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return Look(digest, phash, thumbnail.astype(np.uint8), bool(thumbnail.min() == thumbnail.max()))


def find_copies(looks: Sequence[Look]) -> list[Copy]:
    """Return all pairs of images that are the same, exactly or nearly, in order.

    Every pair of hashes is compared: 5,000 images are 12.5 million pairs, a fraction of a second.
    """
    usable = np.array([i for i, one in enumerate(looks) if not one.is_constant], dtype=np.int64)
    if len(usable) < 2:
        return []
    hashes = np.array([looks[i].phash for i in usable], dtype=np.uint64)
    pixels = np.stack([looks[i].thumbnail for i in usable]).reshape(len(usable), -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    copies: list[Copy] = []
    for start in range(0, len(usable), _HASHES_AT_ONCE):
        bits = np.bitwise_count(hashes[start : start + _HASHES_AT_ONCE, None] ^ hashes[None, start:])
        row, column = np.nonzero(bits <= MAX_HASH_BITS)
        above = row < column
        first, second = row[above] + start, column[above] + start
        for part in range(0, len(first), _PAIRS_AT_ONCE):
            a, b = first[part : part + _PAIRS_AT_ONCE], second[part : part + _PAIRS_AT_ONCE]
            correlation = np.einsum("ij,ij->i", pixels[a], pixels[b])
            copies += [
                Copy(int(i), int(j), looks[i].digest == looks[j].digest, float(r))
                for i, j, r in zip(usable[a], usable[b], correlation, strict=True)
                if r >= MIN_CORRELATION
            ]
    return sorted(copies, key=lambda copy: (copy.first, copy.second))
