"""Predictions to look at: outlines on images, and the strip of frames in which a lesion comes into view (figure 8)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.analysis.measures.outlines import outline

BEFORE, AFTER = 2, 2
"""Frames of a strip beside the one in which the lesion comes into view."""
INTERVAL_S = 0.5
"""Between the frames of a strip, as in the paper."""
CLIP_S, CLIP_BEFORE_S = 30.0, 5.0
"""A clip is at most so long, and begins so long before the lesion comes into view."""
_PIXELS_A_LINE = 300
"""An image gets lines a pixel wider for so many pixels of its shorter side."""
_SHIFT = 4
"""Binary digits of fractions of a pixel in OpenCV's coordinates."""
_CASING_DARKNESS = 0.6


def draw_outline(gray: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], colour: str) -> npt.NDArray[np.uint8]:
    """The image `(H, W)` in colour `(H, W, 3)`, blue first, with the mask's outline; of an empty mask the bare image.

    colour: `#rrggbb`. The line has a dark casing, to be seen on bright tissue; inside and outside nothing is touched.
    """
    picture = np.repeat(gray[..., None], 3, axis=2)
    polygons = outline(mask)
    if not polygons:
        return picture
    # an outline's (0, 0) is the corner of the first pixel, OpenCV's is its centre
    points = [np.rint((polygon - 0.5) * 2**_SHIFT).astype(np.int32) for polygon in polygons]
    width = max(1, round(min(gray.shape) / _PIXELS_A_LINE))
    casing = np.zeros(gray.shape, np.uint8)
    cv2.polylines(casing, points, True, 255, width + 2, cv2.LINE_AA, _SHIFT)
    dark = casing > 0
    picture[dark] = np.rint(picture[dark] * (1 - _CASING_DARKNESS / 255 * casing[dark][:, None]))
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    cv2.polylines(picture, points, True, (blue, green, red), width, cv2.LINE_AA, _SHIFT)
    return picture


def comes_into_view(seen: npt.NDArray[np.bool_], step: int) -> int | None:
    """The frame in which the lesion comes into view; None where it is in no frame.

    seen: `(N,)`, whether a frame has a lesion. Of all frames in which a lesion begins, the one that shows it best: with
    the longest clear time before and the longest steady one after, as far as a strip of every `step`-th frame shows; of
    equals the first.
    """
    if not seen.any():
        return None
    turns = np.flatnonzero(seen[1:] != seen[:-1]) + 1
    runs = np.split(seen, turns)
    best, most, start = 0, -1, 0
    for place, run in enumerate(runs):
        if run[0]:
            clear = len(runs[place - 1]) if place else 0
            shown = min(clear, BEFORE * step) + min(len(run), AFTER * step + 1)
            if shown > most:
                best, most = start, shown
        start += len(run)
    return best


def strip_frames(seen: npt.NDArray[np.bool_], interval_s: float) -> list[int]:
    """The frames of a strip: every half second around the one in which the lesion comes into view.

    seen: `(N,)`, whether a frame has a lesion. interval_s: between neighbouring frames; NaN where it is not known, and
    for frames that are further apart: then every frame. A short sequence is shown whole or at shorter steps; without a
    lesion it is shown from its beginning.
    """
    count = BEFORE + 1 + AFTER
    step = max(1, round(INTERVAL_S / interval_s)) if interval_s > 0 else 1
    step = max(1, min(step, (len(seen) - 1) // (count - 1)))
    onset = comes_into_view(seen, step) or 0
    first = max(0, min(onset - BEFORE * step, len(seen) - 1 - (count - 1) * step))
    return list(range(first, len(seen), step))[:count]


def clip_frames(seen: npt.NDArray[np.bool_], fps: float) -> range:
    """The frames of a clip: all of a short video, else those from shortly before the lesion comes into view."""
    length = max(1, round(CLIP_S * fps))
    if len(seen) <= length:
        return range(len(seen))
    onset = comes_into_view(seen, max(1, round(INTERVAL_S * fps))) or 0
    first = max(0, min(onset - round(CLIP_BEFORE_S * fps), len(seen) - length))
    return range(first, first + length)
