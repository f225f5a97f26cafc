"""Videos: frames read and short clips encoded, by OpenCV.

Its wheel has an FFmpeg of its own, without H.264 encoders.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from eus_ray.data.io.images import Channels
from eus_ray.errors import UserError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once; else FFmpeg prints all damage to the terminal

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm")
_FPS_IF_UNKNOWN = 25.0
_CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))
"""MPEG-4 in MP4 is played everywhere; a build without that encoder has motion JPEG in AVI, which is OpenCV's own."""


@dataclass(frozen=True)
class Video:
    """A video file of which at least one frame can be decoded."""

    path: Path
    height: int
    width: int
    fps: float
    num_frames: int
    """As the file says; 0 if it does not."""


class Frame(NamedTuple):
    """A frame, by its number from 0."""

    number: int
    time_s: float
    pixels: npt.NDArray[np.uint8]
    """Gray `(H, W)`, made so as image files are, or colour `(H, W, 3)`, red first."""


def open_video(path: Path) -> Video:
    """Open a video and return its facts.

    Raises:
        UserError: If no frame of it can be decoded.
    """
    with _opened(path) as capture:
        is_decoded, picture = capture.read()
        if not is_decoded:
            raise UserError(
                f"{path}: cannot be read as a video: it is damaged, or OpenCV cannot decode it; convert it, for "
                "example with `ffmpeg -i VIDEO new.mp4`"
            )
        fps, announced = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return Video(
            path=path,
            height=picture.shape[0],
            width=picture.shape[1],
            fps=fps if 0 < fps <= 1000 else _FPS_IF_UNKNOWN,
            num_frames=int(announced) if 0 < announced < 2**31 else 0,
        )


def read_frames(video: Video, wanted: Collection[int] | None = None, channels: Channels = "gray") -> Iterator[Frame]:
    """Yield the frames in their order, gray or in colour, one in memory at a time.

    With `wanted`, only the frames with these numbers are decoded. Times are those of the file if they rise; else they
    follow from the frames per second.
    """
    with _opened(video.path) as capture:
        number, before_s = 0, -1e-6  # the first frame may be at 0
        last = math.inf if wanted is None else max(wanted, default=-1)
        while number <= last and capture.grab():
            time_s = round(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 6)
            if not before_s < time_s < math.inf:
                time_s = round(number / video.fps, 6)
            before_s = time_s
            if wanted is None or number in wanted:
                is_decoded, picture = capture.retrieve()
                if not is_decoded:
                    return
                yield Frame(number, time_s, _seen(np.asarray(picture, np.uint8), channels))
            number += 1


def _seen(picture: npt.NDArray[np.uint8], channels: Channels) -> npt.NDArray[np.uint8]:
    """Return the pixels of a frame `(H, W, 3)`, blue first; gray is made as the decoder of image files does."""
    colour = np.ascontiguousarray(picture[..., ::-1])
    return colour if channels == "rgb" else np.asarray(Image.fromarray(colour).convert("L"))


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(str(path))
    try:
        yield capture
    finally:
        capture.release()
        cv2.utils.logging.setLogLevel(level)


def encode_clip(pictures: Iterable[npt.NDArray[np.uint8]], height: int, width: int, fps: float) -> tuple[str, bytes]:
    """Encode a clip of colour pictures `(height, width, 3)`, blue first.

    Odd sides get one black row or column: the codecs take pairs of pixels.

    Returns:
        The suffix of its file, and its bytes.

    Raises:
        RuntimeError: If this build of OpenCV can write none of the codecs.
    """
    odd_row, odd_column = height % 2, width % 2
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in _CODECS:
            path = Path(folder) / f"clip{suffix}"
            size = (width + odd_column, height + odd_row)
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
            if not writer.isOpened():
                continue
            try:
                for picture in pictures:
                    writer.write(cv2.copyMakeBorder(picture, 0, odd_row, 0, odd_column, cv2.BORDER_CONSTANT))
            finally:
                writer.release()
            return suffix, path.read_bytes()
    raise RuntimeError("this build of OpenCV can write neither MPEG-4 nor motion JPEG")
