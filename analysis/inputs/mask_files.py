"""Mask files of any tool: two folders paired by name, and the pixels of a pair."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eus_ray.data.io.folders import look_into
from eus_ray.data.io.images import NoMaskError, Picture, Remark, decode
from eus_ray.data.names import composed, is_writable, shown
from eus_ray.data.signs import MaskFacts, mask_facts
from eus_ray.errors import UserError
from eus_ray.metrics import THRESHOLD

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy", ".jpg", ".jpeg")
"""JPEG is among them so that it is refused with a reason."""


class Pair(NamedTuple):
    """Two files of one name."""

    name: str
    """The path below either folder without suffix, `/` between folders, composed (`names.composed`)."""
    prediction: Path
    truth: Path


class Pairing(NamedTuple):
    """The files of two folders, paired."""

    pairs: list[Pair]
    """Sorted by name."""
    alone: tuple[dict[str, Path], dict[str, Path]]
    """Predictions without truth, and truths without prediction, by name."""
    defects: list[str]
    """Lines on names that a folder has twice, or that are not UTF-8."""
    notes: list[str]
    """What was passed over."""


class MaskFile(NamedTuple):
    """What is known of a file beside its pixels."""

    lesion_value: float
    """The value of the lesion as stored, a palette's index; 0 if there is none, and for a probability map."""
    is_colour: bool
    """Whether the value is the gray of a colour, which no other file needs to share."""
    facts: MaskFacts
    remarks: tuple[Remark, ...]


class Masks(NamedTuple):
    """One pair's pixels, each `(H, W)`."""

    truth: npt.NDArray[np.bool_]
    pred: npt.NDArray[np.bool_]
    scores: npt.NDArray[Any] | None
    """Probabilities as stored; None if the prediction is a mask."""
    files: tuple[MaskFile, MaskFile]
    """Prediction and truth."""


def pair_files(predictions: Path, truths: Path) -> Pairing:
    """Pair the masks of two folders by name without suffix, whatever encoding the names have.

    Folders within them are included. Linked folders, hidden files, and files that are no pictures or arrays are passed
    over; notes count them.

    Raises:
        UserError: If a folder is missing or holds no mask, or if both are one.
    """
    lines = []
    for kind, folder in (("predictions", predictions), ("truths", truths)):
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "no such folder"
            lines.append(f"{folder}: {what}; name the folder that holds the {kind}")
    if not lines and predictions.resolve() == truths.resolve():
        lines.append(f"{predictions}: holds predictions and truths at once; name two folders")
    if lines:
        raise UserError(*lines)
    (found, *told), (true, *more) = _masks_below(predictions), _masks_below(truths)
    pairs = [Pair(name, found[name], true[name]) for name in sorted(found.keys() & true.keys())]
    alone = ({name: path for name, path in found.items() if name not in true},
             {name: path for name, path in true.items() if name not in found})  # fmt: skip
    return Pairing(pairs, alone, *(one + other for one, other in zip(told, more, strict=True)))


def _masks_below(folder: Path) -> tuple[dict[str, Path], list[str], list[str]]:
    """Return the masks of a folder by name, and lines on defects and on what is passed over."""
    masks: dict[str, Path] = {}
    lines: list[str] = []
    others: list[Path] = []
    unwritable: list[Path] = []
    there = look_into(folder)
    for path in there.files:
        below = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES:
            others.append(path)
        elif not is_writable(str(below)):
            unwritable.append(path)
        elif (name := composed(below.with_suffix("").as_posix())) in masks:
            lines.append(f"{shown(str(path))}: {shown(masks[name].name)} has the same name; keep one, or rename one")
        else:
            masks[name] = path
    if unwritable:
        more = f" ({len(unwritable)} files are such)" if len(unwritable) > 1 else ""
        lines.append(f"{shown(str(unwritable[0]))}: its name is not UTF-8; rename it{more}")
    told = there.passed_over(others)
    if not masks and not lines:
        but = f"; there are {told}" if told else ""
        raise UserError(f"{folder}: holds no masks; {', '.join(SUFFIXES[:5])} are read, volumes slice by slice{but}")
    return masks, lines, [f"{folder}: passed over, since they are not read: {told}"] if told else []


def without_suffix(written: str) -> str:
    """Return a pair's name from its file's name in a table."""
    path = PurePosixPath(written)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else str(path)


def read_pair(prediction: Path, truth: Path, label: int | None = None, probability: bool = False) -> Masks:
    """Read both files of a pair.

    Args:
        prediction: A mask or, with `probability`, a map of 8- or 16-bit levels or of floats from 0 to 1, lesion from a
            half on.
        truth: A mask: 0 and one other value, or any values of which `label` is the lesion.
        label: The value of the lesion in masks.
        probability: Whether the prediction is a map.

    Raises:
        UserError: With a line for each file that cannot be read or is no such thing, or for a pair of two sizes.
    """
    lines: list[str] = []
    read_mask = partial(_read_mask, label=label)
    found = _tried(prediction, lines, _read_probability if probability else read_mask)
    true = _tried(truth, lines, read_mask)
    if found is not None and true is not None and found.mask.shape != true.mask.shape:
        (height, width), (true_height, true_width) = found.mask.shape, true.mask.shape
        turned = "; one of them is turned" if (height, width) == (true_width, true_height) else ""
        lines.append(
            f"{prediction}: is {height} × {width} pixels (rows × columns), "
            f"its truth {true_height} × {true_width}{turned}"
        )
    if found is None or true is None or lines:
        raise UserError(*lines)
    return Masks(true.mask, found.mask, found.scores, (found.file, true.file))


_TOLERANCE = 1e-6
"""A mean or a resampled probability may lie so far outside 0 to 1 in float32."""
_HALF: dict[type[np.generic], float] = {np.uint8: 128, np.uint16: THRESHOLD}
"""The lowest level of a lesion's pixel; of floats it is 0.5."""


class _Read(NamedTuple):
    mask: npt.NDArray[np.bool_]
    scores: npt.NDArray[Any] | None
    file: MaskFile


def _tried(path: Path, lines: list[str], read: Callable[[Path], _Read]) -> _Read | None:
    try:
        return read(path)
    except OSError as error:
        lines.append(f"{path}: cannot be read ({error.strerror})")
    except ValueError as error:
        lines.append(f"{path}: {error}")
    return None


def _read_mask(path: Path, label: int | None) -> _Read:
    picture = _picture(path)
    if label is not None:
        mask = picture.labels() == label
        return _Read(mask, None, _file(picture, mask, float(label) if mask.any() else 0.0))
    try:
        mask = picture.two_values() != 0
    except NoMaskError as error:
        raise ValueError(f"{error}; name the lesion's value, or read these as probability maps") from None
    # of a palette, the lesion may be colour 0
    value = float(picture.stored[mask].max() or picture.gray[mask].max()) if mask.any() else 0.0
    return _Read(mask, None, _file(picture, mask, value))


def _read_probability(path: Path) -> _Read:
    picture = _picture(path)
    values = picture.levels()
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise ValueError(f"has values from {low:g} to {high:g}; probabilities lie in 0 to 1")
    elif values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"holds {values.dtype}; a probability map has 8 or 16 bits, or floats from 0 to 1")
    mask = values >= _HALF.get(values.dtype.type, 0.5)
    return _Read(mask, values, _file(picture, mask, 0.0))


def _file(picture: Picture, mask: npt.NDArray[np.bool_], lesion_value: float) -> MaskFile:
    colour = None if picture.is_palette else picture.colour
    digest = hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).digest()
    return MaskFile(
        lesion_value,
        is_colour=colour is not None and bool((colour != colour[..., :1]).any()),
        facts=mask_facts(mask, digest),
        remarks=picture.remarks,
    )


def _picture(path: Path) -> Picture:
    """Return a picture, or an array file as one."""
    content = path.read_bytes()
    if path.suffix.lower() != ".npy":
        return decode(content)
    try:
        # Not np.load: it opens archives and pickles too.
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"is not an array that NumPy can read without pickle ({error})") from None
    if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype} of shape {array.shape}; a mask has numbers and is (rows, columns)")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("has values that are not finite")
    values = array.astype(np.uint8) if array.dtype == np.bool_ else array
    return Picture(gray=values, stored=values)
