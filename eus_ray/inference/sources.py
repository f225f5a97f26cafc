"""Images, folders and videos to predict, all found and checked before anything is written.

A folder gives its images and videos and those of the folders in it; linked folders, names that begin with a dot and
other files are left out and counted. If it holds a data set (`manifest.csv`), or a manifest is given itself, it gives
the images of that table and their spacing. So no mask is mistaken for an image. A picture's pixels are those of
`data.io.images`: one with a flag of orientation is turned as viewers show it.

A manifest tells images that are consecutive frames by its columns `video` with `frame` or `time_s`. Without one their
names do: `frame_7.png`, `left_frame_7.png`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from eus_ray.analysis.inputs.videos import FRAME, TIME, VIDEO, find_videos
from eus_ray.data.io.folders import look_into
from eus_ray.data.io.images import SUFFIXES as IMAGE_SUFFIXES
from eus_ray.data.io.images import Channels, Remark, read_picture, told_remarks
from eus_ray.data.io.manifest_columns import REQUIRED
from eus_ray.data.io.tables import SUFFIXES as TABLE_SUFFIXES
from eus_ray.data.io.tables import read_table
from eus_ray.data.io.video import SUFFIXES as VIDEO_SUFFIXES
from eus_ray.data.io.video import Video, open_video
from eus_ray.data.manifest import read_manifest
from eus_ray.data.names import alike, is_writable, shown
from eus_ray.errors import UserError

MANIFEST = "manifest.csv"
_FRAME = re.compile(r"(?P<video>.*frame)[\s_.-]*(?P<number>\d+)", re.IGNORECASE)


class _Named:
    """A file that is named by its path below what was given."""

    name: str

    @property
    def stem(self) -> str:
        """Its name without suffix."""
        return PurePosixPath(self.name).with_suffix("").as_posix()


@dataclass(frozen=True)
class Picture(_Named):
    """An image file."""

    path: Path
    name: str
    """Its path below what was given, such as `a/b.jpg`; results are named after it."""
    height: int
    width: int
    """Of the picture as viewers show it."""
    remarks: tuple[Remark, ...] = ()
    """How it was read; none of a manifest's pictures, whose remarks are among its warnings."""
    spacing_mm: tuple[float, float] = (math.nan, math.nan)
    """Distance of rows and of columns; NaN if it is not known."""
    time_s: float = math.nan
    """When it was taken in a video; NaN if that is not known."""


@dataclass(frozen=True)
class Clip(_Named):
    """A video file, named as a `Picture` is."""

    name: str
    video: Video


@dataclass(frozen=True)
class FrameSequence:
    """Two or more pictures that are consecutive frames of one video, in their order."""

    name: str
    pictures: tuple[Picture, ...]
    captions: tuple[str, ...]
    """When each was taken, for print."""

    @property
    def interval_s(self) -> float:
        """Mean time between two frames; NaN if their times are not known."""
        return (self.pictures[-1].time_s - self.pictures[0].time_s) / (len(self.pictures) - 1)


@dataclass
class Sources:
    """Everything to predict, in the order in which it was given; in folders by name, numbers by value."""

    pictures: list[Picture] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    sequences: list[FrameSequence] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What was passed over, how files were read, names that look alike, and the warnings of manifests."""
    masks: set[Path] = field(default_factory=set)
    """The true masks that manifests name."""


def find_sources(places: Iterable[str | Path], channels: Channels = "gray") -> Sources:
    """Find and check what is to be predicted: decode every image, and the first frame of every video.

    Args:
        places: Images, folders, videos or manifests.
        channels: What the networks see; in colour a transparent image cannot be read.

    Raises:
        UserError: With a line for each place that holds nothing, each file that cannot be read or has a name that is
            not UTF-8, and each two files whose results would have the same name.
    """
    sources = Sources()
    without_manifest: list[Picture] = []
    lines: list[str] = []
    for place in map(Path, places):
        try:
            found, has_manifest = _look(place, channels)
        except UserError as error:
            lines += error.lines
            continue
        sources.pictures += found.pictures
        sources.clips += found.clips
        sources.sequences += found.sequences
        sources.warnings += found.warnings
        if not has_manifest:
            without_manifest += found.pictures
    lines += _collisions(sources)
    if not lines:
        sources.sequences += _sequences(without_manifest, _frames_by_name(without_manifest))
        lines += _same_strips(sources)
    if lines:
        raise UserError(*lines)
    remarks = ((picture.path, remark) for picture in sources.pictures for remark in picture.remarks)
    sources.warnings += told_remarks(remarks)
    sources.warnings += alike("image", [picture.stem for picture in without_manifest])
    sources.warnings += alike("video", [clip.stem for clip in sources.clips])
    return sources


def _look(place: Path, channels: Channels) -> tuple[Sources, bool]:
    """Sources at a place, and whether a manifest lists them."""
    if place.is_dir():
        manifest = place / MANIFEST
        if manifest.is_file() and set(REQUIRED) <= set(read_table(manifest).columns):
            found = _of_manifest(manifest, channels)
            found.warnings += _not_named(place, manifest, found)
            return found, True
        return _of_folder(place, channels), False
    if not place.exists():
        raise UserError(f"{place}: no such file or folder")
    if place.suffix.lower() in TABLE_SUFFIXES:
        return _of_manifest(place, channels), True
    return _of_files([(place, place.name)], channels), False


def _of_manifest(path: Path, channels: Channels) -> Sources:
    manifest = read_manifest(path, duplicates="warn", channels=channels)
    frame, folder = manifest.frame, path.parent.resolve()
    names = [Path(image).relative_to(folder).as_posix() for image in frame["image"]]
    times = pd.to_numeric(frame[TIME], errors="coerce") if TIME in frame else [math.nan] * len(frame)
    pictures = [
        Picture(
            path=Path(row["image"]),
            name=name,
            height=row["height"],
            width=row["width"],
            spacing_mm=(row["spacing_row"], row["spacing_col"]),
            time_s=float(time_s),
        )
        for row, name, time_s in zip(frame.to_dict("records"), names, times, strict=True)
    ]
    sequences = _sequences(pictures, frame.assign(image_id=names))
    if wrong := [sequence.name for sequence in sequences if not _is_file_name(sequence.name)]:
        raise UserError(*(f"{path}: column {VIDEO}: {name} cannot be a file's name; rename it" for name in wrong))
    return Sources(pictures, [], sequences, list(manifest.warnings), {Path(mask) for mask in frame["mask"]})


def _is_file_name(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and path.name != ""


def _of_folder(folder: Path, channels: Channels) -> Sources:
    """Images and videos below a folder. Raise `UserError` if there is none, or one cannot be read."""
    there = look_into(folder)
    taken = [path for path in there.files if _is_image(path) or _is_video(path)]
    passed_over = there.passed_over(path for path in there.files if not (_is_image(path) or _is_video(path)))
    if not taken:
        raise UserError(
            f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)}) and no video ({', '.join(VIDEO_SUFFIXES)}), "
            f"nor do the folders in it{f', but {passed_over}' if passed_over else ''}"
        )
    names = [(path, path.relative_to(folder).as_posix()) for path in taken]
    names.sort(key=lambda one: [_natural(part) for part in PurePosixPath(one[1]).parts])
    found = _of_files(names, channels)
    if passed_over:
        found.warnings.append(f"{folder}: {_counted(found)} of {len(there.files)} files; passed over: {passed_over}")
    return found


def _counted(sources: Sources) -> str:
    """How many images and videos there are, in words."""
    counts = (("image", len(sources.pictures)), ("video", len(sources.clips)))
    return " and ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts if count)


def _not_named(folder: Path, manifest: Path, sources: Sources) -> list[str]:
    """A warning of images and videos below a data set's folder that its manifest does not name."""
    named = {picture.path for picture in sources.pictures} | sources.masks
    there = look_into(folder.resolve(), named)
    others = there.passed_over(path for path in there.files if _is_image(path) or _is_video(path) if path not in named)
    return [f"{manifest}: names {_counted(sources)}; it does not name, and passed over are {others}"] if others else []


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts `frame_2` before `frame_10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def _of_files(files: list[tuple[Path, str]], channels: Channels) -> Sources:
    """Open all of them, and raise `UserError` with a line for each that cannot be read."""
    opened = partial(_open, channels)
    with ThreadPoolExecutor() as pool:
        found = [
            *map(opened, [file for file in files if _is_video(file[0])]),  # one by one: OpenCV's log level is global
            *pool.map(opened, [file for file in files if not _is_video(file[0])]),
        ]
    if lines := [line for one in found if isinstance(one, UserError) for line in one.lines]:
        raise UserError(*lines)
    return Sources([one for one in found if isinstance(one, Picture)], [one for one in found if isinstance(one, Clip)])


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _open(channels: Channels, file: tuple[Path, str]) -> Picture | Clip | UserError:
    path, name = file
    if not is_writable(str(path) if _is_video(path) else name):  # OpenCV opens a video by its whole path
        return UserError(f"{shown(str(path))}: its name is not UTF-8; rename it")
    try:
        if _is_video(path):
            return Clip(name, open_video(path))
        shape, remarks = read_picture(path, lambda picture: (picture.pixels(channels).shape, picture.remarks))
    except UserError as error:
        return error
    return Picture(path, name, shape[0], shape[1], remarks)


# ---- consecutive frames -----------------------------------------------------------------------------


def _frames_by_name(pictures: list[Picture]) -> pd.DataFrame:
    """As a manifest has it: `image_id, video, frame`; no video for names that are no frame's."""
    matches = [_FRAME.fullmatch(picture.stem) for picture in pictures]
    return pd.DataFrame(
        {
            "image_id": [picture.name for picture in pictures],
            VIDEO: [match["video"] if match else None for match in matches],
            FRAME: [int(match["number"]) if match else -1 for match in matches],
        }
    )


def _sequences(pictures: list[Picture], table: pd.DataFrame) -> list[FrameSequence]:
    """The videos of a table whose `image_id` are the pictures' names."""
    by_name = {picture.name: picture for picture in pictures}
    return [
        FrameSequence(found.name, tuple(by_name[name] for name in found.images), found.captions)
        for found in find_videos(table)
    ]


# ---- names ------------------------------------------------------------------------------------------


def _collisions(sources: Sources) -> list[str]:
    """A line for each two files whose results would have the same name."""
    lines: list[str] = []
    videos = {clip.stem: clip.video.path for clip in sources.clips}
    pictures = [(picture.stem, picture.path) for picture in sources.pictures]
    for files in (pictures, [(clip.stem, clip.video.path) for clip in sources.clips]):
        first: dict[str, Path] = {}
        for stem, path in files:
            if stem not in first:
                first[stem] = path
            elif first[stem].resolve() == path.resolve():
                lines.append(f"{path}: is given twice")
            else:
                lines.append(
                    f"{path}: {first[stem]} has that name too, {stem}; rename one, or give a folder above both"
                )
    for stem, path in pictures:
        beside = [videos[name] for parent in PurePosixPath(stem).parents if (name := str(parent)) in videos]
        lines += [f"{path}: lies in a folder with the name of the video {other}; rename one" for other in beside]
    return lines


def _same_strips(sources: Sources) -> list[str]:
    names = [sequence.name for sequence in sources.sequences] + [clip.stem for clip in sources.clips]
    return [
        f"two videos are called {name}; predict one of them into another folder"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
