"""Pictures on the training grid: decoded whole, resized, and mapped back.

Every picture passes through `decode`, which decodes all of it (a file cut short is an error, never a
half-gray picture), and `to_uint8`, which maps deep gray values to 0..255. Pixels are squares whose
centres lie at (i + 0.5): the convention of `cv2.resize`, in which all resizing here is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from eus_ray.config import DataSettings, EvaluateSettings
from eus_ray.data.io.images import UInt8, decode, decode_mask
from eus_ray.errors import UserError
from eus_ray.store import CASES

Intensity = Literal["auto"] | tuple[float, float]
Resize = Literal["stretch", "pad"]

_REVISION = 1
"""Counts up when the same files and settings would give other arrays, so that no cache is mistaken."""


@dataclass(frozen=True)
class Arrays:
    """All pictures of a study: `images (N, S, S)` uint8 and `masks (N, S, S)` uint8 of 0 and 1."""

    images: UInt8
    masks: UInt8


# ---- gray values ------------------------------------------------------------------------------------


def to_uint8(gray: npt.NDArray[Any], intensity: Intensity) -> UInt8:
    """Gray values `(H, W)` as uint8: `auto`, or `(low, high)` that become 0 and 255, cut off outside.

    `auto` leaves 8-bit pictures as they are and maps deeper ones linearly from their own minimum and
    maximum; a deep picture of one value becomes 0.
    """
    if intensity == "auto":
        if gray.dtype == np.uint8:
            return gray
        low, high = float(gray.min()), float(gray.max())
        if low == high:
            return np.zeros(gray.shape, np.uint8)
    else:
        low, high = intensity
    return np.rint(np.clip((gray.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def read_image(path: str | Path, intensity: Intensity = "auto") -> UInt8:
    """A picture as gray `(H, W)` uint8. Raises `UserError` where it cannot be read whole."""
    return to_uint8(_from_file(path, decode), intensity)


def read_mask(path: str | Path) -> UInt8:
    """A mask as `(H, W)` uint8 of 0 and 1. Raises `UserError` where it cannot be read, or is no mask."""
    return _from_file(path, decode_mask)


def _from_file(path: str | Path, decoder: Callable[[bytes], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    try:
        return decoder(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


# ---- the training grid and back ---------------------------------------------------------------------


def placement(height: int, width: int, size: int, resize: Resize) -> tuple[int, int, int, int]:
    """Where a picture lies on the `(size, size)` grid: top, left, height, width, in its pixels."""
    if resize == "stretch":
        return 0, 0, size, size
    scale = size / max(height, width)
    resized_height, resized_width = max(1, round(height * scale)), max(1, round(width * scale))
    return (size - resized_height) // 2, (size - resized_width) // 2, resized_height, resized_width


def resize_image(image: UInt8, size: int, resize: Resize) -> UInt8:
    """`(H, W)` uint8 on the `(size, size)` grid: area average where it shrinks, bilinear where it grows."""
    top, left, height, width = placement(image.shape[0], image.shape[1], size, resize)
    grid = np.zeros((size, size), np.uint8)
    grid[top : top + height, left : left + width] = _resample(image, height, width)
    return grid


def resize_mask(mask: UInt8, size: int, resize: Resize) -> UInt8:
    """`(H, W)` of 0 and 1 on the `(size, size)` grid: 1 where the lesion covers half a pixel or more.

    A lesion that covers half of no pixel keeps the one that it covers most, so that no image with a
    lesion turns into one without.
    """
    top, left, height, width = placement(mask.shape[0], mask.shape[1], size, resize)
    coverage = _resample(mask.astype(np.float32), height, width)
    lesion = coverage >= 0.5
    if mask.any() and not lesion.any():
        lesion.flat[int(coverage.argmax())] = True
    grid = np.zeros((size, size), np.uint8)
    grid[top : top + height, left : left + width] = lesion
    return grid


def to_original_grid(
    probability: npt.NDArray[np.float32], height: int, width: int, resize: Resize
) -> npt.NDArray[np.float32]:
    """A map `(S, S)` of the training grid on the original pixels `(height, width)`, float32.

    The inverse of the resizing: the padding is cut off, then the map is resized, bilinear where it grows
    and area average where it shrinks. Values stay within [0, 1].
    """
    top, left, resized_height, resized_width = placement(height, width, probability.shape[0], resize)
    inside = probability[top : top + resized_height, left : left + resized_width].astype(np.float32)
    return np.clip(_resample(inside, height, width), 0, 1)


def grid_spacing(
    height: int, width: int, spacing: tuple[float, float], size: int, resize: Resize
) -> tuple[float, float]:
    """Spacing (row, column) on the training grid: original spacing × original pixels / resized pixels.

    NaN (no spacing) stays NaN.
    """
    _, _, resized_height, resized_width = placement(height, width, size, resize)
    return spacing[0] * height / resized_height, spacing[1] * width / resized_width


def _resample(picture: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """`(H, W)` to `(height, width)`. First the axes that shrink: INTER_AREA averages only where none grows."""
    shrunk_height, shrunk_width = min(picture.shape[0], height), min(picture.shape[1], width)
    if picture.shape != (shrunk_height, shrunk_width):
        picture = cv2.resize(picture, (shrunk_width, shrunk_height), interpolation=cv2.INTER_AREA)
    if picture.shape != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture


# ---- whole data sets --------------------------------------------------------------------------------


def num_bytes(frame: pd.DataFrame, data: DataSettings) -> int:
    """Memory that `load_arrays` takes, in bytes."""
    return 2 * len(frame) * data.image_size**2


def arrays_name(fingerprint: str, data: DataSettings) -> str:
    """A folder's name for `load_arrays(into=…)`: one for each data set and way to resize it."""
    key = json.dumps([_REVISION, fingerprint, data.image_size, data.resize, data.intensity])
    return f"arrays-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def load_arrays(
    frame: pd.DataFrame, data: DataSettings, threads: int | None = None, into: Path | None = None
) -> Arrays:
    """The images and masks of a manifest on the training grid, in its order; decoded in parallel threads.

    With `into` the arrays are memory-mapped files in that folder, for sets larger than memory: built
    aside and renamed, so that the folder is whole or not there, and opened again (read-only) where it
    exists. Its name must tell data and settings apart: `arrays_name`. Raises `UserError` with a line for
    each file that cannot be read, and where there is no room.
    """
    shape = (len(frame), data.image_size, data.image_size)
    if into is None:
        arrays = Arrays(np.empty(shape, np.uint8), np.empty(shape, np.uint8))
        _fill(arrays, frame, data, threads)
        return arrays
    if not into.is_dir():
        aside = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
        try:
            aside.mkdir(parents=True)
            free = shutil.disk_usage(aside).free  # a mapped file on a full disk would kill the process
            if free < num_bytes(frame, data):
                raise UserError(f"{into.parent}: has room for {free} bytes, {num_bytes(frame, data)} are needed")
            arrays = Arrays(*(np.lib.format.open_memmap(aside / name, "w+", np.uint8, shape) for name in _FILES))
            _fill(arrays, frame, data, threads)
            for array in (arrays.images, arrays.masks):
                array.flush()  # type: ignore[attr-defined]
            try:
                aside.rename(into)
            except OSError:
                if not into.is_dir():  # else another process was first, with the same arrays
                    raise
        except OSError as error:
            raise UserError(f"{into}: cannot be written ({error.strerror})") from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    try:
        arrays = Arrays(*(np.load(into / name, mmap_mode="r") for name in _FILES))
    except (OSError, ValueError) as error:
        raise UserError(f"{into}: cannot be opened ({error}); delete it, and it is made again") from None
    if arrays.images.shape != shape or arrays.masks.shape != shape:
        raise UserError(f"{into}: holds arrays of another shape than {shape}; delete it, and it is made again")
    return arrays


_FILES = ("images.npy", "masks.npy")


def _fill(arrays: Arrays, frame: pd.DataFrame, data: DataSettings, threads: int | None) -> None:
    def fill(index: int, image: str, mask: str) -> tuple[str, ...]:
        try:
            arrays.images[index] = resize_image(read_image(image, data.intensity), data.image_size, data.resize)
            arrays.masks[index] = resize_mask(read_mask(mask), data.image_size, data.resize)
        except UserError as error:
            return error.lines
        return ()

    with ThreadPoolExecutor(threads) as pool:
        lines = [line for found in pool.map(fill, range(len(frame)), frame["image"], frame["mask"]) for line in found]
    if lines:
        raise UserError(*lines)


def cases_table(frame: pd.DataFrame, arrays: Arrays, data: DataSettings, evaluate: EvaluateSettings) -> pa.Table:
    """`store.CASES` of a manifest: each image and truth as gray PNG (truth: 0 and 255) on the evaluation grid.

    `resized`: the arrays, and the spacing scaled with them. `original`: the files' own pixels (gray values
    mapped by `data.intensity`) and spacing.
    """

    def case(index: int, row: Any) -> dict[str, Any]:
        spacing = (float(row.spacing_row), float(row.spacing_col))
        if evaluate.grid == "resized":
            image, truth = arrays.images[index], arrays.masks[index]
            spacing = grid_spacing(int(row.height), int(row.width), spacing, data.image_size, data.resize)
        else:
            image, truth = read_image(row.image, data.intensity), read_mask(row.mask)
        return {
            "image_id": row.image_id,
            "height": image.shape[0],
            "width": image.shape[1],
            "image": _png(image),
            "truth": _png(truth * np.uint8(255)),
            "spacing_row": spacing[0],
            "spacing_col": spacing[1],
        }

    columns = ["image_id", "image", "mask", "height", "width", "spacing_row", "spacing_col"]
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(case, range(len(frame)), frame[columns].itertuples(index=False)))
    return pa.Table.from_pylist(rows, schema=CASES)


def _png(image: UInt8) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes()
