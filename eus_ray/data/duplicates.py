"""The same picture twice: exact copies, and copies that were saved again, rescaled or recompressed.

A picture that sits under two patients lands in training and test, and the test then measures memory.
Copies are found in two steps: a 64-bit perceptual hash (pHash: signs of the low frequencies of the
cosine transform) within 4 bits proposes, correlation at a common size confirms. Cropped, mirrored or
rotated copies are other pictures to both.
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

MAX_BITS = 4
"""Hash bits that copies may differ by; a copy at 90 % size and JPEG quality 70 differs by 2 at most."""
MIN_CORRELATION = 0.98
"""Pearson correlation that copies must reach at the common size."""
_COMMON_SIZE = 64
_BLOCK = 1024
"""Rows of hashes compared at once, and four times as many pairs correlated at once: tens of MB."""


@dataclass(frozen=True)
class Look:
    """What is kept of a picture to compare it with others.

    `digest` of its size and gray values, `phash` (64 bits), `thumbnail (64, 64)` uint8. A picture of one
    gray value has nothing to recognise: `constant`, and a copy of none.
    """

    digest: bytes
    phash: int
    thumbnail: npt.NDArray[np.uint8]
    constant: bool


@dataclass(frozen=True)
class Copy:
    """Two pictures that are one: their positions, `first < second`, and whether every gray value is equal."""

    first: int
    second: int
    exact: bool
    correlation: float


def look(image: npt.NDArray[np.uint8]) -> Look:
    """What is compared of a picture, gray `(H, W)` uint8."""
    bits = imagehash.phash(Image.fromarray(image), hash_size=8).hash
    digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
    thumbnail = cv2.resize(image, (_COMMON_SIZE, _COMMON_SIZE), interpolation=cv2.INTER_AREA)
    phash = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return Look(digest, phash, thumbnail.astype(np.uint8), bool(thumbnail.min() == thumbnail.max()))


def find_copies(looks: Sequence[Look]) -> list[Copy]:
    """All pairs of pictures that are the same, exactly or nearly, in order; none for no pictures.

    Compares every pair of hashes: 5,000 pictures are 12.5 million pairs, a fraction of a second.
    """
    usable = np.array([i for i, one in enumerate(looks) if not one.constant], dtype=np.int64)
    if len(usable) < 2:
        return []
    hashes = np.array([looks[i].phash for i in usable], dtype=np.uint64)
    pixels = np.stack([looks[i].thumbnail for i in usable]).reshape(len(usable), -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    copies: list[Copy] = []
    for start in range(0, len(usable), _BLOCK):
        bits = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, start:])
        row, column = np.nonzero(bits <= MAX_BITS)
        above = row < column
        first, second = row[above] + start, column[above] + start
        for part in range(0, len(first), 4 * _BLOCK):
            a, b = first[part : part + 4 * _BLOCK], second[part : part + 4 * _BLOCK]
            correlation = np.einsum("ij,ij->i", pixels[a], pixels[b])
            for i, j, r in zip(usable[a], usable[b], correlation, strict=True):
                if r >= MIN_CORRELATION:
                    copies.append(Copy(int(i), int(j), looks[i].digest == looks[j].digest, float(r)))
    return sorted(copies, key=lambda copy: (copy.first, copy.second))
