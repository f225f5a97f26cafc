"""Mask files of any tool: two folders paired by name, and the pixels of a pair."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eus_ray.data.io.images import NoMaskError, Picture, decode, lesion_value
from eus_ray.errors import UserError
from eus_ray.metrics import THRESHOLD

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy", ".jpg", ".jpeg")
"""JPEG is among them so that it is refused with a reason."""


class Pair(NamedTuple):
    """Two files of one name."""

    name: str
    """The path below either folder without suffix, `/` between folders."""
    prediction: Path
    truth: Path


class Pairing(NamedTuple):
    """The files of two folders, paired."""

    pairs: list[Pair]
    """Sorted by name."""
    alone: tuple[list[Path], list[Path]]
    """Predictions without truth, and truths without prediction."""
    defects: list[str]
    """One line for each name that a folder has twice."""


class Masks(NamedTuple):
    """One pair's pixels, each `(H, W)`."""

    truth: npt.NDArray[np.bool_]
    pred: npt.NDArray[np.bool_]
    scores: npt.NDArray[Any] | None
    """Probabilities as stored; None if the prediction is a mask."""
    lesion_values: tuple[float, float]
    """The value of the lesion in prediction and truth; 0 if there is none, and for a probability map."""


def pair_files(predictions: Path, truths: Path) -> Pairing:
    """Pair the masks of two folders by name without suffix.

    Folders within them are included. Hidden files, and files that are no pictures or arrays, are passed over.

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
    (found, defects), (true, more) = _masks_below(predictions), _masks_below(truths)
    pairs = [Pair(name, found[name], true[name]) for name in sorted(found.keys() & true.keys())]
    alone = ([path for name, path in found.items() if name not in true],
             [path for name, path in true.items() if name not in found])  # fmt: skip
    return Pairing(pairs, alone, defects + more)


def _masks_below(folder: Path) -> tuple[dict[str, Path], list[str]]:
    masks: dict[str, Path] = {}
    lines = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(place).relative_to(folder).as_posix()
        for file in sorted(files):
            stem, dot, suffix = file.rpartition(".")
            if not stem or dot + suffix.lower() not in SUFFIXES or file.startswith("."):
                continue
            name, path = stem if below == "." else f"{below}/{stem}", Path(place, file)
            if name in masks:
                lines.append(f"{path}: {masks[name].name} has the same name; keep one, or rename one")
            masks.setdefault(name, path)
    if not masks:
        raise UserError(f"{folder}: holds no masks; {', '.join(SUFFIXES[:5])} are read, volumes slice by slice")
    return masks, lines


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
    if found is not None and true is not None and found[0].shape != true[0].shape:
        (height, width), (true_height, true_width) = found[0].shape, true[0].shape
        turned = "; one of them is turned" if (height, width) == (true_width, true_height) else ""
        lines.append(
            f"{prediction}: is {height} × {width} pixels (rows × columns), "
            f"its truth {true_height} × {true_width}{turned}"
        )
    if found is None or true is None or lines:
        raise UserError(*lines)
    return Masks(true[0], found[0], found[1], (found[2], true[2]))


_TOLERANCE = 1e-6
"""A mean or a resampled probability may lie so far outside 0 to 1 in float32."""
_HALF: dict[type[np.generic], float] = {np.uint8: 128, np.uint16: THRESHOLD}
"""The lowest level of a lesion's pixel; of floats it is 0.5."""
_Read = tuple[npt.NDArray[np.bool_], npt.NDArray[Any] | None, float]
"""Mask, scores, and the value that stands for the lesion."""


def _tried(path: Path, lines: list[str], read: Callable[[Path], _Read]) -> _Read | None:
    try:
        return read(path)
    except OSError as error:
        lines.append(f"{path}: cannot be read ({error.strerror})")
    except ValueError as error:
        lines.append(f"{path}: {error}")
    return None


def _read_mask(path: Path, label: int | None) -> _Read:
    if label is not None:
        mask = _stored(path, Picture.labels) == label
        return mask, None, float(label) if mask.any() else 0.0
    try:
        values = _stored(path, Picture.two_values)
        return values != 0, None, lesion_value(values)
    except NoMaskError as error:
        raise ValueError(f"{error}; name the lesion's value, or read these as probability maps") from None


def _read_probability(path: Path) -> _Read:
    values = _stored(path, Picture.levels)
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise ValueError(f"has values from {low:g} to {high:g}; probabilities lie in 0 to 1")
    elif values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"holds {values.dtype}; a probability map has 8 or 16 bits, or floats from 0 to 1")
    return values >= _HALF.get(values.dtype.type, 0.5), values, 0.0


def _stored(path: Path, wanted: Callable[[Picture], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the values `(H, W)` of a picture or of an array file."""
    content = path.read_bytes()
    if path.suffix.lower() != ".npy":
        return wanted(decode(content))
    try:
        # Not np.load: it opens archives and pickles too.
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"is not an array that NumPy can read without pickle ({error})") from None
    if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype} of shape {array.shape}; a mask has numbers and is (rows, columns)")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("has values that are not finite")
    return array.astype(np.uint8) if array.dtype == np.bool_ else array
