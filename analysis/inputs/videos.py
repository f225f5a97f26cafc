"""Videos among the images of a manifest, and their most telling frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

VIDEO, FRAME, TIME = "video", "frame", "time_s"
"""Columns of a manifest: the video's name, and the frame's number or its time in seconds, or both. An image without
a video is a still."""


@dataclass(frozen=True)
class Video:
    """One video's frames in the manifest, in their order."""

    name: str
    images: tuple[str, ...]
    """image_id, two at least."""
    captions: tuple[str, ...]
    """Times for print: `2.5 s`, or `frame 5` if no time is known."""


def find_videos(manifest: pd.DataFrame) -> list[Video]:
    """Find the videos of a manifest, in its order.

    Frames are ordered by number, else by time. A video is left out if it has a single frame, or if no order is known: a
    number is missing, is no number or stands twice. No videos without a column `video` and one of `frame` and `time_s`.
    """
    clocks = [column for column in (FRAME, TIME) if column in manifest]
    if VIDEO not in manifest or not clocks:
        return []
    frames = manifest[manifest[VIDEO].notna() & (manifest[VIDEO].astype(str).str.strip() != "")]
    return [
        video
        for name, mine in frames.groupby(VIDEO, sort=False)
        if (video := _video(str(name), mine, clocks)) is not None
    ]


def _video(name: str, frames: pd.DataFrame, clocks: Sequence[str]) -> Video | None:
    numbers = {clock: pd.to_numeric(frames[clock], errors="coerce").to_numpy(np.float64) for clock in clocks}
    usable = [
        clock for clock in clocks if np.isfinite(numbers[clock]).all() and len(set(numbers[clock])) == len(frames) > 1
    ]
    if not usable:
        return None
    order = np.argsort(numbers[usable[0]], kind="stable")
    caption = "{:g} s" if TIME in usable else "frame {:g}"
    clock = numbers[TIME if TIME in usable else FRAME]
    return Video(
        name,
        tuple(frames["image_id"].iloc[order]),
        tuple(caption.format(value) for value in clock[order]),
    )


def telling_window(lesions: Sequence[bool], length: int) -> slice:
    """Return `length` consecutive frames in which the lesion comes into view, or goes.

    Two frames before the first change are included, as in the paper's figure 8. Without a change it is the middle; all
    frames if there are no more.

    Args:
        lesions: Whether each frame of a video shows one.
        length: How many frames to choose.
    """
    changes = np.flatnonzero(np.diff(np.asarray(lesions, np.int8)))
    start = changes[0] - 1 if len(changes) else (len(lesions) - length) // 2
    start = int(np.clip(start, 0, max(len(lesions) - length, 0)))
    return slice(start, min(start + length, len(lesions)))
