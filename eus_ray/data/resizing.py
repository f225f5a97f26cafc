"""The training grid: images and masks resized to it, maps brought back from it.

Pixels are squares whose centres lie at (i + 0.5): the convention of `cv2.resize`, in which all resizing here is done.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.data.io.images import UInt8

Resize = Literal["stretch", "pad"]


def placement(height: int, width: int, size: int, resize: Resize) -> tuple[int, int, int, int]:
    """Return top, left, height, width of an image on the `(size, size)` grid."""
    if resize == "stretch":
        return 0, 0, size, size
    scale = size / max(height, width)
    resized_height, resized_width = max(1, round(height * scale)), max(1, round(width * scale))
    return (size - resized_height) // 2, (size - resized_width) // 2, resized_height, resized_width


def resize_image(image: UInt8, size: int, resize: Resize) -> UInt8:
    """Resize an image, gray `(H, W)` or colour `(H, W, 3)`, to the `(size, size)` grid.

    It is averaged over areas along an axis that shrinks, and interpolated linearly along an axis that grows.
    """
    top, left, height, width = placement(image.shape[0], image.shape[1], size, resize)
    grid = np.zeros((size, size, *image.shape[2:]), np.uint8)
    grid[top : top + height, left : left + width] = _resample(image, height, width)
    return grid


def resize_mask(mask: UInt8, size: int, resize: Resize) -> UInt8:
    """Resize a mask `(H, W)` of 0 and 1 to the `(size, size)` grid.

    A pixel is 1 if the lesion covers half of it or more. A lesion that covers half of no pixel keeps the one that it
    covers most, so that no image with a lesion turns into one without.
    """
    top, left, height, width = placement(mask.shape[0], mask.shape[1], size, resize)
    coverage = _resample(mask.astype(np.float32), height, width)
    lesion = coverage >= 0.5
    if mask.any() and not lesion.any():
        lesion.flat[int(coverage.argmax())] = True
    grid = np.zeros((size, size), np.uint8)
    grid[top : top + height, left : left + width] = lesion
    return grid


def to_original_grid(
    probability: npt.NDArray[np.float32], height: int, width: int, resize: Resize
) -> npt.NDArray[np.float32]:
    """Bring a map `(S, S)` of the training grid to the pixels `(height, width)`.

    This is the inverse of the resizing: the padding is cut off, then the map is resized in the same way.

    Returns:
        The map as float32; values stay within [0, 1].
    """
    top, left, resized_height, resized_width = placement(height, width, probability.shape[0], resize)
    inside = probability[top : top + resized_height, left : left + resized_width].astype(np.float32)
    return np.clip(_resample(inside, height, width), 0, 1)


def grid_spacing(
    height: int, width: int, spacing_mm: tuple[float, float], size: int, resize: Resize
) -> tuple[float, float]:
    """Return the spacing (row, column) on the training grid, in mm.

    It is the original spacing × original pixels / resized pixels. NaN (no spacing) stays NaN.
    """
    _, _, resized_height, resized_width = placement(height, width, size, resize)
    return spacing_mm[0] * height / resized_height, spacing_mm[1] * width / resized_width


def _resample(image: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Resize `(H, W)` or `(H, W, 3)` to `(height, width)`."""
    # First the axes that shrink: INTER_AREA averages only if none grows.
    shrunk_height, shrunk_width = min(image.shape[0], height), min(image.shape[1], width)
    if image.shape[:2] != (shrunk_height, shrunk_width):
        image = cv2.resize(image, (shrunk_width, shrunk_height), interpolation=cv2.INTER_AREA)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image
