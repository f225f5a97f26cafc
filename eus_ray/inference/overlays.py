"""Pictures of predictions: outlines on images, and the strip of frames in which a lesion comes into view (figure 8)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.analysis.measures.outlines import outline

NUM_BEFORE, NUM_AFTER = 2, 2
"""Frames of a strip before and after the onset, as in the paper."""
INTERVAL_S = 0.5
"""Between the frames of a strip, as in the paper."""
CLIP_S, CLIP_BEFORE_S = 30.0, 5.0
"""Longest clip, and its part before the onset: enough to see the lesion come into view."""
_PIXELS_PER_LINE_WIDTH = 300
"""Pixels of an image's shorter side; on a large image a line of one pixel would be lost."""
_FRACTION_BITS = 4
"""Binary digits of fractions of a pixel in OpenCV's coordinates."""
_CASING_DARKNESS = 0.6


def draw_outline(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], colour: str) -> npt.NDArray[np.uint8]:
    """Return an image in colour, `(H, W, 3)` with blue first, with a mask's outline; without one for an empty mask.

    The line has a dark casing, to be seen on bright tissue; all other pixels stay.

    Args:
        image: Gray `(H, W)` or colour `(H, W, 3)`, red first.
        mask: `(H, W)`.
        colour: `#rrggbb`.
    """
    picture = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    polygons = outline(mask)
    if not polygons:
        return picture
    # an outline's (0, 0) is the corner of the first pixel, OpenCV's is its centre
    points = [np.rint((polygon - 0.5) * 2**_FRACTION_BITS).astype(np.int32) for polygon in polygons]
    width = max(1, round(min(mask.shape) / _PIXELS_PER_LINE_WIDTH))
    casing = np.zeros(mask.shape, np.uint8)
    cv2.polylines(casing, points, True, 255, width + 2, cv2.LINE_AA, _FRACTION_BITS)
    dark = casing > 0
    picture[dark] = np.rint(picture[dark] * (1 - _CASING_DARKNESS / 255 * casing[dark][:, None]))
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    cv2.polylines(picture, points, True, (blue, green, red), width, cv2.LINE_AA, _FRACTION_BITS)
    return picture


def find_onset(seen: npt.NDArray[np.bool_], step: int) -> int | None:
    """Return the frame in which the lesion comes into view; None if no frame has a lesion.

    It is the frame that shows it best among all in which a lesion begins: with the longest clear time before and the
    longest steady one after, as far as a strip shows; of equals the first.

    Args:
        seen: Whether each frame has a lesion, `(N,)`.
        step: A strip shows every `step`-th frame.
    """
    if not seen.any():
        return None
    starts = np.flatnonzero(np.diff(seen, prepend=not seen[0]))  # of runs of frames with and without a lesion
    lengths = np.diff(starts, append=len(seen))
    before = np.concatenate([[0], lengths[:-1]])
    shown = np.minimum(before, NUM_BEFORE * step) + np.minimum(lengths, NUM_AFTER * step + 1)
    return int(starts[np.where(seen[starts], shown, -1).argmax()])


def strip_frames(seen: npt.NDArray[np.bool_], interval_s: float) -> list[int]:
    """Return the frames of a strip: every half second around the onset.

    A short sequence is shown whole or at shorter steps, one without a lesion from its beginning.

    Args:
        seen: Whether each frame has a lesion, `(N,)`.
        interval_s: Between neighbouring frames. Every frame is shown if it is NaN (not known) or above half a second.
    """
    count = NUM_BEFORE + 1 + NUM_AFTER
    step = max(1, round(INTERVAL_S / interval_s)) if interval_s > 0 else 1
    step = max(1, min(step, (len(seen) - 1) // (count - 1)))
    onset = find_onset(seen, step) or 0
    first = max(0, min(onset - NUM_BEFORE * step, len(seen) - 1 - (count - 1) * step))
    return list(range(first, len(seen), step))[:count]


def clip_frames(seen: npt.NDArray[np.bool_], fps: float) -> range:
    """Return the frames of a clip: all of a short video, else those from shortly before the onset."""
    length = max(1, round(CLIP_S * fps))
    if len(seen) <= length:
        return range(len(seen))
    onset = find_onset(seen, max(1, round(INTERVAL_S * fps))) or 0
    first = max(0, min(onset - round(CLIP_BEFORE_S * fps), len(seen) - length))
    return range(first, first + length)
