"""`predict`: a study's trained ensemble on new images, folders and videos.

    OUT/masks/NAME.png            8-bit, 0 and 255, on the image's own pixels; all 0 where there is no cancer
    OUT/probabilities/NAME.png    16-bit, rint(p * 65535); the mask is where it is >= 32768
    OUT/overlays/NAME.png         the image with the mask's outline
    OUT/areas.csv                 one row an image and frame
    OUT/strips/NAME.{svg,png}     of videos and of images that are consecutive frames: the lesion comes into view
    OUT/clips/NAME.mp4            of a video, with outlines

NAME is the image's path below the folder that was given. A video's frames are NAME/frame_000000 and so on, without
overlays: its clip has them. Before the network an image passes through what it passed through in training.
"""

from __future__ import annotations

import itertools
import os
import string
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.labels import model_label
from eus_ray.analysis.measures.image_metrics import num_components
from eus_ray.analysis.measures.outlines import outline
from eus_ray.data.io.images import decode_mask, read_image, to_uint8
from eus_ray.data.io.video import Frame, encode_clip, read_frames
from eus_ray.data.resizing import resize_image, to_original_grid
from eus_ray.errors import UserError
from eus_ray.inference.ensemble import Ensemble, Trained, load_ensemble, trained_model
from eus_ray.inference.overlays import clip_frames, draw_outline, strip_frames
from eus_ray.inference.sources import Clip, FrameSequence, Picture, Sources, find_sources
from eus_ray.metrics import THRESHOLD, quantise
from eus_ray.store import Store

TABLE = "areas.csv"
COLUMNS = (
    *("image", "frame", "time_s", "height", "width", "area_px", "area_mm2", "components"),
    *("max_probability", "mean_probability", "mask"),
)
"""`image`: the file's name as above, with suffix; `frame` from 0 and `time_s` of videos, `time_s` also where a manifest
has it. `components`: regions of the mask, pixels that touch at a corner belong together. `area_mm2` where the spacing
is known. `mean_probability`: within the mask; none for an empty one. `mask`: the file below OUT."""


class Listener(Protocol):
    """What wants to know how a prediction goes on."""

    def say(self, text: str) -> None: ...
    def begin(self, total: int) -> None: ...
    def done(self, number: int) -> None: ...


@dataclass(frozen=True)
class Predicted:
    """What came of a prediction."""

    trained: Trained
    images: int
    frames: int
    with_lesion: int
    """Of both."""


def predict(
    study: str | Path, places: Sequence[str | Path], out: str | Path, listener: Listener, model: str | None = None
) -> Predicted:
    """Predict images, folders and videos with the mean probability of a trained model's folds; write all into `out`.

    `study` and `out` may be any location that the store opens. Raises `UserError` with a line for every defect before
    anything is written: a study without a trained model, weights that are missing or damaged, files that cannot be
    read, two results of one name, an `out` with files in it. Interrupted (`KeyboardInterrupt`), it leaves whole files
    and the rows of what is done.
    """
    trained, sources, target = _checked(study, places, out, model)
    if trained.compared:
        scores = ", ".join(f"{name} {dsc:.3f}" for name, dsc in trained.compared.items())
        listener.say(f"headline DSC: {scores}; {trained.model} is taken, --model names another")
    ensemble, device = load_ensemble(trained)
    listener.say(
        f"{trained.model}, {trained.kind} trial {trained.trial}: mean of {len(trained.folds)} folds on {device}"
    )
    listener.begin(len(sources.pictures) + sum(clip.video.num_frames for clip in sources.clips))
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        writing = _Writing(trained, ensemble, target, listener, pool)
        try:
            writing.pictures(sources.pictures)
            for sequence in sources.sequences:
                writing.sequence(sequence)
            for clip in sources.clips:
                writing.clip(clip)
        finally:
            pool.shutdown(cancel_futures=True)
            writing.table()
    rows = writing.rows.values()
    return Predicted(
        trained=trained,
        images=len(sources.pictures),
        frames=len(rows) - len(sources.pictures),
        with_lesion=sum(row["area_px"] > 0 for row in rows),
    )


def _checked(
    study: str | Path, places: Sequence[str | Path], out: str | Path, model: str | None
) -> tuple[Trained, Sources, Store]:
    """Everything that can be checked before torch is imported. Raises `UserError` with all that is wrong."""
    lines: list[str] = []
    trained, sources, target = None, None, Store(out)
    try:
        trained = trained_model(Store(study), model)
    except UserError as error:
        lines += error.lines
    try:
        sources = find_sources(places)
    except UserError as error:
        lines += error.lines
    try:
        target.check_unused()
    except UserError as error:
        lines += error.lines
    if trained is None or sources is None or lines:
        raise UserError(*lines)
    return trained, sources, target


@dataclass(frozen=True)
class _Item:
    """A picture or frame on its way through the ensemble."""

    stem: str
    gray: npt.NDArray[np.uint8]
    """`(H, W)`"""
    known: dict[str, Any]
    """The cells of its row that do not depend on the prediction."""
    spacing_mm: tuple[float, float] = (float("nan"), float("nan"))
    overlay: bool = False


class _Writing:
    """Predicts batch after batch, and writes what comes of a batch while the next one is computed."""

    def __init__(
        self, trained: Trained, ensemble: Ensemble, target: Store, listener: Listener, pool: ThreadPoolExecutor
    ) -> None:
        from eus_ray.analysis.figures import style  # matplotlib is slow to load

        self._ensemble, self._target, self._listener, self._pool = ensemble, target, listener, pool
        self._data = trained.study.data
        self._batch_size = trained.study.train.batch_size
        self._colour = style.outline_colour(trained.place)
        self._label = f"{model_label(trained.model)}, mean of {len(trained.folds)} folds"
        self.rows: dict[int, dict[str, Any]] = {}
        """Of what is written, by its place in the order of the prediction."""
        self._begun = 0
        self._by_name: dict[str, dict[str, Any]] = {}
        """Of pictures."""

    def pictures(self, pictures: Sequence[Picture]) -> None:
        self._predict(self._items(pictures))
        self._by_name = {row["image"]: row for row in self.rows.values()}

    def sequence(self, sequence: FrameSequence) -> None:
        """The strip of pictures that are consecutive frames, once they are predicted."""
        rows = [self._by_name[picture.name] for picture in sequence.pictures]
        frames = []
        for place in strip_frames(_seen(rows), sequence.interval_s):
            gray = read_image(sequence.pictures[place].path, self._data.intensity)
            frames.append((sequence.captions[place], gray, rows[place]))
        self._strip(sequence.name, frames)

    def clip(self, clip: Clip) -> None:
        """A video: its frames, then its strip and a clip of it."""
        video, first = clip.video, self._begun
        self._predict(self._frame(clip, frame) for frame in read_frames(video))
        rows = [self.rows[place] for place in range(first, self._begun)]
        if len(rows) < video.num_frames:
            announced = f"the file announces {video.num_frames} frames"
            self._listener.say(f"{video.path}: {announced}, and {len(rows)} could be decoded")
        seen = _seen(rows)
        shown = read_frames(video, strip_frames(seen, 1 / video.fps))
        frames = [(f"{round(frame.time_s, 2):g} s", self._gray(frame), rows[frame.number]) for frame in shown]
        self._strip(clip.stem, frames)
        drawn = (
            draw_outline(self._gray(frame), self._mask(rows[frame.number]), self._colour)
            for frame in read_frames(video, clip_frames(seen, video.fps))
        )
        suffix, content = encode_clip(drawn, video.height, video.width, video.fps)
        self._target.write_bytes(f"clips/{clip.stem}{suffix}", content)

    def table(self) -> None:
        """Write the rows of all that is written."""
        if self.rows:
            frame = pd.DataFrame([self.rows[place] for place in sorted(self.rows)], columns=list(COLUMNS))
            self._target.write_text(TABLE, frame.astype({"frame": "Int64"}).to_csv(index=False))

    # ---- batches --------------------------------------------------------------------------------

    def _items(self, pictures: Sequence[Picture]) -> Iterator[_Item]:
        """The pictures, read a batch ahead of the network."""
        reading: deque[tuple[Picture, Future[npt.NDArray[np.uint8]]]] = deque()
        for number in range(len(pictures) + self._batch_size):
            if number < len(pictures):
                picture = pictures[number]
                reading.append((picture, self._pool.submit(read_image, picture.path, self._data.intensity)))
            if reading and number >= self._batch_size:
                picture, image = reading.popleft()
                known = {"image": picture.name, "frame": None, "time_s": picture.time_s}
                yield _Item(picture.stem, image.result(), known, picture.spacing_mm, overlay=True)

    def _frame(self, clip: Clip, frame: Frame) -> _Item:
        known = {"image": clip.name, "frame": frame.number, "time_s": frame.time_s}
        return _Item(f"{clip.stem}/frame_{frame.number:06d}", self._gray(frame), known)

    def _gray(self, frame: Frame) -> npt.NDArray[np.uint8]:
        return to_uint8(frame.gray, self._data.intensity)

    def _predict(self, items: Iterator[_Item]) -> None:
        writing: list[Future[None]] = []
        while batch := list(itertools.islice(items, self._batch_size)):
            grid = np.stack([resize_image(item.gray, self._data.image_size, self._data.resize) for item in batch])
            maps = self._ensemble(grid)
            self._wait(writing)
            places = itertools.count(self._begun)
            writing = [self._pool.submit(self._write, *one) for one in zip(places, batch, maps, strict=False)]
            self._begun += len(batch)
        self._wait(writing)

    def _wait(self, writing: Sequence[Future[None]]) -> None:
        for written in writing:
            written.result()
        if writing:
            self._listener.done(len(writing))

    # ---- files ----------------------------------------------------------------------------------

    def _write(self, place: int, item: _Item, map_: npt.NDArray[np.float32]) -> None:
        """All files of one image, then its row."""
        height, width = item.gray.shape
        levels = quantise(to_original_grid(map_, height, width, self._data.resize))
        mask = levels >= THRESHOLD
        name = f"masks/{item.stem}.png"
        self._target.write_bytes(name, _png(mask * np.uint8(255)))
        self._target.write_bytes(f"probabilities/{item.stem}.png", _png(levels))
        if item.overlay:
            self._target.write_bytes(f"overlays/{item.stem}.png", _png(draw_outline(item.gray, mask, self._colour)))
        area_px = int(np.count_nonzero(mask))
        self.rows[place] = item.known | {
            "height": height,
            "width": width,
            "area_px": area_px,
            "area_mm2": area_px * item.spacing_mm[0] * item.spacing_mm[1],
            "components": num_components(mask),
            "max_probability": int(levels.max()) / 65535,
            "mean_probability": float(levels[mask].mean()) / 65535 if area_px else float("nan"),
            "mask": name,
        }

    def _mask(self, row: dict[str, Any]) -> npt.NDArray[np.bool_]:
        return decode_mask(self._target.read_bytes(row["mask"])).astype(np.bool_)

    def _strip(self, name: str, frames: Sequence[tuple[str, npt.NDArray[np.uint8], dict[str, Any]]]) -> None:
        """Captions, images and rows of frames as a figure; those without a lesion have no outline (figure 8)."""
        from eus_ray.analysis.figures import image_panels, style

        panels = tuple(
            image_panels.Panel(
                f"({letter}) {caption}", gray, (image_panels.Drawn(outline(self._mask(row)), self._colour),)
            )
            for letter, (caption, gray, row) in zip(string.ascii_lowercase, frames, strict=False)
        )
        figure = image_panels.picture_grid([image_panels.Row("", panels)], {self._label: self._colour})
        for suffix, content in zip((".svg", ".png"), style.files(name, figure).values(), strict=True):
            self._target.write_bytes(f"strips/{name}{suffix}", content)


def _seen(rows: Sequence[dict[str, Any]]) -> npt.NDArray[np.bool_]:
    return np.array([row["area_px"] > 0 for row in rows], np.bool_)


def _png(pixels: npt.NDArray[Any]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
