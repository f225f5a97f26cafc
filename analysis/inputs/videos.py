"""Which images of a manifest are consecutive frames of a video, and which of them tell most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

VIDEO, FRAME, TIME = "video", "frame", "time_s"
"""A manifest's columns: the video's name, and the frame's number or its time in seconds, or both. An image without
a video is a still."""


@dataclass(frozen=True)
class Video:
    """The frames of one video that the manifest has, in their order."""

    name: str
    images: tuple[str, ...]
    """image_id, two at least."""
    captions: tuple[str, ...]
    """When each was taken, for print: `2.5 s`, or `frame 5` where no time is known."""


def find_videos(manifest: pd.DataFrame) -> list[Video]:
    """The videos of a manifest in its order; none where it has no column `video` with `frame` or `time_s`.

    Frames are ordered by number, else by time. A video in which one is missing, is no number or stands twice has no
    order, and is left out, as is one of a single frame.
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
    """The `length` consecutive frames in which the lesion comes into view, or goes; all where there are no more.

    lesions: whether each frame of a video shows one. Two frames before the first change are taken along, as in the
    paper's figure 8; without a change the middle ones are taken.
    """
    changes = np.flatnonzero(np.diff(np.asarray(lesions, np.int8)))
    start = changes[0] - 1 if len(changes) else (len(lesions) - length) // 2
    start = int(np.clip(start, 0, max(len(lesions) - length, 0)))
    return slice(start, min(start + length, len(lesions)))
