"""The trained ensemble of a study on new images, folders and videos.

    OUT/masks/NAME.png            8-bit, 0 and 255, on the image's own pixels; all 0 if nothing is predicted
    OUT/probabilities/NAME.png    16-bit, rint(p * 65535); masks are made of it as the study's `[evaluate]` says
    OUT/overlays/NAME.png         the image with the mask's outline
    OUT/areas.csv                 one row an image and frame
    OUT/strips/NAME.{svg,png}     a video, or images that are consecutive frames: the lesion comes into view
    OUT/clips/NAME.mp4            a video with outlines

NAME is the image's path below the folder that was given. A video's frames are NAME/frame_000000 and so on, without
overlays: its clip has them. Before the network an image goes through the same steps as in training. "Its own pixels"
are the picture as viewers show it: if the file has a flag of orientation (EXIF, TIFF), all that is written is turned.
"""

from __future__ import annotations

import itertools
import os
import string
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.measures.image_metrics import num_components
from eus_ray.analysis.measures.outlines import outline
from eus_ray.data.io.images import decode, read_image, to_uint8
from eus_ray.data.io.video import Frame, Video, encode_clip, read_frames
from eus_ray.data.resizing import resize_image
from eus_ray.errors import UserError, collapsed
from eus_ray.inference.ensemble import Ensemble, Trained, load_ensemble, segmented, trained_model
from eus_ray.inference.overlays import clip_frames, draw_outline, strip_frames
from eus_ray.inference.sources import Clip, FrameSequence, Picture, Sources, find_sources
from eus_ray.metrics import agreement
from eus_ray.store import Store
from eus_ray.study.networks import network_warnings

TABLE = "areas.csv"
_TEMPORARY_BYTES = 40
"""A file is written aside, in its folder, under a name of this length at most."""
COLUMNS = (
    *("image", "frame", "time_s", "height", "width", "area_px", "area_mm2", "components"),
    *("max_probability", "mean_probability", "mask", "agreement"),
)
"""`image`: the file's name as above, with suffix. `frame`, from 0: of videos. `time_s`: of videos, and of images whose
manifest has it. `area_mm2`: if the spacing is known. `components`: regions of the mask; pixels that touch at a corner
belong together. `mean_probability`: within the mask; none for an empty one. `mask`: the file below OUT. `agreement`:
the mean DSC over all pairs of the networks' own masks."""


@dataclass(frozen=True)
class Predicted:
    """The result of a prediction."""

    trained: Trained
    images: int
    frames: int
    with_lesion: int
    """How many of both have a lesion."""


def predict(
    study: str | Path,
    places: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | None = None,
    allow_modules: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Predicted:
    """Predict images, folders and videos with the mean probability of a trained model's folds.

    Interrupted (`KeyboardInterrupt`), it leaves whole files and the rows of what is done.

    Args:
        study: The study folder, a path or a URI.
        places: Images, folders, videos or manifests.
        out: A new folder, a path or a URI.
        model: One of the study's; by default the one with the best headline DSC.
        allow_modules: Others' modules that may be imported to build its networks (see `Predictor`).
        progress: Called with how many images and frames are written, and how many there are.
        say: Called with what a person should know, in a line each.
        warn: Called with what is odd, in a line each: what was passed over, how files were read; `say` by default.

    Raises:
        UserError: With a line for every defect, before anything is written: a study without a trained model, weights
            that are missing or damaged, a module that is not allowed, files that cannot be read, two results of one
            name, names that are too long for the disk, an `out` with files in it.
    """
    say = say or (lambda _text: None)
    warn = warn or say
    trained, sources, target = _checked(study, places, out, model, allow_modules)
    for line in (*network_warnings(trained.store, trained.study), *collapsed(sources.warnings)):
        warn(line)
    if trained.compared:
        scores = ", ".join(f"{name} {dsc:.3f}" for name, dsc in trained.compared.items())
        say(f"headline DSC: {scores}; {trained.model} is taken unless you name another")
    ensemble, device = load_ensemble(trained)
    say(f"{trained.model}, {trained.kind} trial {trained.trial}: mean of {len(trained.folds)} folds on {device}")
    announced = len(sources.pictures) + sum(clip.video.num_frames for clip in sources.clips)

    def count(done: int) -> None:
        if progress is not None:
            progress(done, max(done, announced))  # a video may have more frames than its file says

    count(0)
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        writer = _Writer(trained, ensemble, target, count, pool)
        try:
            writer.predict_pictures(sources.pictures, sources.sequences)
            for clip in sources.clips:
                num_frames = writer.predict_clip(clip)
                if num_frames < clip.video.num_frames:
                    warn(
                        f"{clip.video.path}: the file announces {clip.video.num_frames} frames, and {num_frames} could "
                        "be decoded"
                    )
        finally:
            pool.shutdown(cancel_futures=True)
            writer.write_table()
    rows = writer.rows.values()
    return Predicted(
        trained=trained,
        images=len(sources.pictures),
        frames=len(rows) - len(sources.pictures),
        with_lesion=sum(row["area_px"] > 0 for row in rows),
    )


def _checked(
    study: str | Path,
    places: Sequence[str | Path],
    out: str | Path,
    model: str | None,
    allow_modules: Collection[str],
) -> tuple[Trained, Sources, Store]:
    """Check what can be checked before torch is imported, and raise `UserError` with all that is wrong."""
    lines: list[str] = []
    trained, sources, target = None, None, Store(out)
    try:
        trained = trained_model(Store(study), model, allow_modules)
    except UserError as error:
        lines += error.lines
    try:
        sources = find_sources(places, "gray" if trained is None else trained.study.data.channels)
    except UserError as error:
        lines += error.lines
    try:
        target.check_unused()
        lines += _too_long(sources, target) if sources is not None else []
    except UserError as error:
        lines += error.lines
    if trained is None or sources is None or lines:
        raise UserError(*lines)
    return trained, sources, target


def _too_long(sources: Sources, target: Store) -> list[str]:
    """A line for each source whose results would have a name or path that the disk cannot take."""
    if not target.is_local:
        return []
    root = Path(target.root)
    folders = (root, *root.parents)
    disk = next(folder for folder in folders if os.path.exists(folder))  # noqa: PTH110  # too long a path is none
    most_of_name, most_of_path = os.pathconf(disk, "PC_NAME_MAX"), os.pathconf(disk, "PC_PATH_MAX") - 1
    longest = [(str(picture.path), f"probabilities/{picture.stem}.png") for picture in sources.pictures]
    longest += [(f"video {sequence.name}", f"strips/{sequence.name}.svg") for sequence in sources.sequences]
    for clip in sources.clips:
        frames = f"probabilities/{clip.stem}/frame_000000.png"
        longest += [(str(clip.video.path), name) for name in (f"clips/{clip.stem}.mp4", frames)]
    lines: dict[str, str] = {}
    for source, name in longest:
        path = os.fsencode(target.path(name))
        if max(map(len, path.split(b"/"))) > most_of_name:
            lines[source] = f"{source}: its results would have a name of more than {most_of_name} bytes; shorten it"
        elif len(path) + _TEMPORARY_BYTES > most_of_path:
            lines[source] = (
                f"{source}: its results would have a path of more than {most_of_path} bytes; shorten it, or choose "
                "another output folder"
            )
    return list(lines.values())


@dataclass(frozen=True)
class _Item:
    """A picture or frame on its way through the ensemble."""

    stem: str
    image: npt.NDArray[np.uint8]
    """Gray `(H, W)` or colour `(H, W, 3)`, as the study's are."""
    known: dict[str, Any]
    """The cells of its row that do not depend on the prediction."""
    spacing_mm: tuple[float, float] = (float("nan"), float("nan"))
    overlay: bool = False


class _Writer:
    """Predicts batch after batch, and writes the files of a batch while the next one is computed."""

    def __init__(
        self,
        trained: Trained,
        ensemble: Ensemble,
        target: Store,
        count: Callable[[int], None],
        pool: ThreadPoolExecutor,
    ) -> None:
        from eus_ray.analysis.figures import style  # matplotlib is slow to load

        self._ensemble, self._target, self._count, self._pool = ensemble, target, count, pool
        self._study, self._data = trained.study, trained.study.data
        self._batch_size = trained.study.train.batch_size
        self._colour = style.outline_colour(trained.place)
        self._label = f"{trained.study.label}, mean of {len(trained.folds)} folds"
        self.rows: dict[int, dict[str, Any]] = {}
        """Rows of the table by their place in the order of the prediction."""
        self._num_begun = 0

    def predict_pictures(self, pictures: Sequence[Picture], sequences: Sequence[FrameSequence]) -> None:
        """Predict pictures, then write the strips of those that are consecutive frames."""
        self._predict(self._items(pictures))
        by_name = {row["image"]: row for row in self.rows.values()}
        for sequence in sequences:
            rows = [by_name[picture.name] for picture in sequence.pictures]
            frames = [
                (sequence.captions[place], self._read(sequence.pictures[place]), rows[place])
                for place in strip_frames(_seen(rows), sequence.interval_s)
            ]
            self._strip(sequence.name, frames)

    def predict_clip(self, clip: Clip) -> int:
        """Predict a video's frames, then write its strip and a clip of it; return how many frames it has."""
        video, first = clip.video, self._num_begun
        self._predict(self._frame(clip, frame) for frame in self._frames(video))
        rows = [self.rows[place] for place in range(first, self._num_begun)]
        seen = _seen(rows)
        shown = self._frames(video, strip_frames(seen, 1 / video.fps))
        frames = [(f"{round(frame.time_s, 2):g} s", frame.pixels, rows[frame.number]) for frame in shown]
        self._strip(clip.stem, frames)
        drawn = (
            draw_outline(frame.pixels, self._mask(rows[frame.number]), self._colour)
            for frame in self._frames(video, clip_frames(seen, video.fps))
        )
        suffix, content = encode_clip(drawn, video.height, video.width, video.fps)
        self._target.write_bytes(f"clips/{clip.stem}{suffix}", content)
        return len(rows)

    def write_table(self) -> None:
        """Write the rows of everything whose files are written."""
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
                reading.append((picture, self._pool.submit(self._read, picture)))
            if reading and number >= self._batch_size:
                picture, image = reading.popleft()
                known = {"image": picture.name, "frame": None, "time_s": picture.time_s}
                yield _Item(picture.stem, image.result(), known, picture.spacing_mm, overlay=True)

    def _frame(self, clip: Clip, frame: Frame) -> _Item:
        known = {"image": clip.name, "frame": frame.number, "time_s": frame.time_s}
        return _Item(f"{clip.stem}/frame_{frame.number:06d}", frame.pixels, known)

    def _read(self, picture: Picture) -> npt.NDArray[np.uint8]:
        return read_image(picture.path, self._data.intensity, self._data.channels)

    def _frames(self, video: Video, wanted: Collection[int] | None = None) -> Iterator[Frame]:
        """The frames of a video as the study's images are."""
        for frame in read_frames(video, wanted, self._data.channels):
            yield frame._replace(pixels=to_uint8(frame.pixels, self._data.intensity))

    def _predict(self, items: Iterator[_Item]) -> None:
        writing: list[Future[None]] = []
        while batch := list(itertools.islice(items, self._batch_size)):
            grid = np.stack([resize_image(item.image, self._data.image_size, self._data.resize) for item in batch])
            maps = self._ensemble(grid)
            self._wait(writing)
            places = itertools.count(self._num_begun)
            of_images = np.moveaxis(maps, 1, 0)
            writing = [self._pool.submit(self._write, *one) for one in zip(places, batch, of_images, strict=False)]
            self._num_begun += len(batch)
        self._wait(writing)

    def _wait(self, writing: Sequence[Future[None]]) -> None:
        for written in writing:
            written.result()
        if writing:
            self._count(len(self.rows))

    # ---- files ----------------------------------------------------------------------------------

    def _write(self, place: int, item: _Item, maps: npt.NDArray[np.float32]) -> None:
        """Write all files of one image, then note its row."""
        height, width = item.image.shape[:2]
        levels, mask, members = segmented(maps, height, width, self._study)
        name = f"masks/{item.stem}.png"
        self._target.write_bytes(name, _png(mask * np.uint8(255)))
        self._target.write_bytes(f"probabilities/{item.stem}.png", _png(levels))
        if item.overlay:
            self._target.write_bytes(f"overlays/{item.stem}.png", _png(draw_outline(item.image, mask, self._colour)))
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
            "agreement": agreement(members),
        }

    def _mask(self, row: dict[str, Any]) -> npt.NDArray[np.bool_]:
        return decode(self._target.read_bytes(row["mask"])).mask().astype(np.bool_)

    def _strip(self, name: str, frames: Sequence[tuple[str, npt.NDArray[np.uint8], dict[str, Any]]]) -> None:
        """Write captions, images and rows of frames as a figure; those without a lesion have no outline (figure 8)."""
        from eus_ray.analysis.figures import image_panels, style

        panels = tuple(
            image_panels.Panel(
                f"({letter}) {caption}", image, (image_panels.Drawn(outline(self._mask(row)), self._colour),)
            )
            for letter, (caption, image, row) in zip(string.ascii_lowercase, frames, strict=False)
        )
        figure = image_panels.picture_grid([image_panels.Row("", panels)], {self._label: self._colour})
        for suffix, content in zip((".svg", ".png"), style.files(name, figure).values(), strict=True):
            self._target.write_bytes(f"strips/{name}{suffix}", content)


def _seen(rows: Sequence[dict[str, Any]]) -> npt.NDArray[np.bool_]:
    return np.array([row["area_px"] > 0 for row in rows], np.bool_)


def _png(pixels: npt.NDArray[Any]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
