"""Lesions that only colour shows: no gray value tells them.

They stand for what colour endoscopy, Doppler and elastography add to brightness. Tissue is cool, a lesion warm, and
each pixel's luma (ITU-R 601, as `data.io.images` makes colour gray) is that of the gray image without the lesion, whose
place and shape are drawn apart from it. So the gray version of a picture is the same wherever its lesion lies.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

SIZE_SHARE = 0.5
"""A lesion's diameter as a share of `size_mm`: a mask that guesses its place must be poor, and the sector is small."""
_MAX_SHIFT = 48
"""How far red lies from the gray value, up in a lesion, down elsewhere; less if the value is near black or white."""
_RED, _GREEN = 0.299, 0.587
_NUM_WAVES = 4
"""The outline's irregularities: waves around it, from the second on."""
_ROUGHNESS = 0.12


def tinted(gray: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Return the picture in colour `(H, W, 3)` uint8, red first; made gray again, it is `gray` to the last bit.

    Green makes up for red: its rounding moves the luma by 0.3 levels at most, less than the half that would show.

    Args:
        gray: `(H, W)` uint8. Black and white have no hue.
        lesion: Where it is warm, `(H, W)` bool.
    """
    level = gray.astype(np.float64)
    shift = np.minimum(_MAX_SHIFT, np.minimum(level, 255 - level)) * np.where(lesion, 1, -1)
    green = np.rint(level - shift * _RED / _GREEN)
    return np.stack([level + shift, green, level], axis=2).astype(np.uint8)


def draw_lesion(rng: np.random.Generator, inside: np.ndarray, diameter_px: float) -> np.ndarray:
    """Draw a lesion `(S, S)` bool of irregular outline, anywhere in the sector.

    Args:
        rng: The patient's random stream.
        inside: The pixels of the sector, `(S, S)` bool.
        diameter_px: Its mean diameter; less if the sector is too small for it.
    """
    room = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    radius = min(diameter_px / 2, 0.8 * float(room.max()))
    places = np.argwhere(room >= radius)
    row, column = places[rng.integers(len(places))] + rng.uniform(-0.5, 0.5, 2)
    swing = rng.normal(0, _ROUGHNESS, _NUM_WAVES) / np.arange(1, _NUM_WAVES + 1)
    phase = rng.uniform(0, 2 * math.pi, _NUM_WAVES)
    rows, columns = np.indices(inside.shape)
    angle = np.arctan2(rows - row, columns - column)[..., None]
    edge = radius * (1 + (swing * np.cos(np.arange(2, _NUM_WAVES + 2) * angle + phase)).sum(axis=2))
    return inside & (np.hypot(rows - row, columns - column) <= np.maximum(edge, 1))
