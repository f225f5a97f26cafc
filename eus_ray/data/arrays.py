"""A whole data set: as arrays on the training grid, and as the table of cases."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from eus_ray.config import DataSettings, EvaluateSettings
from eus_ray.data.io.images import UInt8, encode_png, read_image, read_mask
from eus_ray.data.resizing import grid_spacing, resize_image, resize_mask
from eus_ray.errors import UserError
from eus_ray.store import CASES

_REVISION = 1
"""Counts up if the same files and settings would give other arrays, so that no cache is mistaken."""
_FILES = ("images.npy", "masks.npy")
_CASES_AT_ONCE = 16
"""A case is large: readers and the writer of the table hold a few at a time."""


@dataclass(frozen=True)
class Arrays:
    """All images and masks of a study, uint8.

    Images are gray `(N, S, S)`, or colour `(N, S, S, 3)`, red first; masks `(N, S, S)` of 0 and 1.
    """

    images: UInt8
    masks: UInt8


def num_bytes(frame: pd.DataFrame, data: DataSettings) -> int:
    """Return the memory that `load_arrays` takes, in bytes."""
    return (data.num_channels + 1) * len(frame) * data.image_size**2


def arrays_name(fingerprint: str, data: DataSettings) -> str:
    """Return a folder's name for `load_arrays`: one for each data set and settings."""
    key: list[Any] = [_REVISION, fingerprint, data.image_size, data.resize, data.intensity]
    if data.channels != "gray":
        key.append(data.channels)
    return f"arrays-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"


def load_arrays(frame: pd.DataFrame, data: DataSettings, into: Path | None = None) -> Arrays:
    """Decode a manifest's images and masks to the training grid, in its order.

    Several threads decode at once.

    Args:
        frame: The manifest's frame, one row an image.
        data: The size of the grid, the channels, how images are resized, and how their values are mapped.
        into: A folder for the arrays as memory-mapped files, for sets larger than memory. It is built aside and
            renamed, so that it is whole or does not exist; if it exists, it is opened (read-only) and nothing is
            decoded. Its name must tell data and settings apart: `arrays_name`.

    Raises:
        UserError: With one line for each file that cannot be read; or if there is no room on the disk.
    """
    shapes = _shapes(frame, data)
    if into is None:
        arrays = Arrays(*(np.empty(shape, np.uint8) for shape in shapes))
        _fill(arrays, frame, data)
        return arrays
    if not into.is_dir():
        aside = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
        try:
            aside.mkdir(parents=True)
            free = shutil.disk_usage(aside).free  # a mapped file on a full disk would kill the process
            if free < num_bytes(frame, data):
                raise UserError(f"{into.parent}: has room for {free} bytes, {num_bytes(frame, data)} are needed")
            mapped = [*map(partial(_new_file, aside), _FILES, shapes)]
            arrays = Arrays(*mapped)
            _fill(arrays, frame, data)
            for array in mapped:
                array.flush()
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
    if (arrays.images.shape, arrays.masks.shape) != shapes:
        raise UserError(f"{into}: holds arrays of another shape than {shapes[0]}; delete it, and it is made again")
    return arrays


def _shapes(frame: pd.DataFrame, data: DataSettings) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of images and masks."""
    masks = (len(frame), data.image_size, data.image_size)
    return (masks if data.channels == "gray" else (*masks, data.num_channels)), masks


def _new_file(folder: Path, name: str, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    return np.lib.format.open_memmap(folder / name, "w+", np.uint8, shape)


def _fill(arrays: Arrays, frame: pd.DataFrame, data: DataSettings) -> None:
    def fill(index: int, image: str, mask: str) -> tuple[str, ...]:
        try:
            pixels = read_image(image, data.intensity, data.channels)
            arrays.images[index] = resize_image(pixels, data.image_size, data.resize)
            arrays.masks[index] = resize_mask(read_mask(mask), data.image_size, data.resize)
        except UserError as error:
            return error.lines
        return ()

    with ThreadPoolExecutor() as pool:
        lines = [line for found in pool.map(fill, range(len(frame)), frame["image"], frame["mask"]) for line in found]
    if lines:
        raise UserError(*lines)


def case_batches(
    frame: pd.DataFrame, arrays: Arrays, data: DataSettings, evaluate: EvaluateSettings
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table `store.CASES` of a manifest, 16 at a time.

    It has image and truth of each case as PNG on the evaluation grid: the image gray, or RGB if `data.channels` says
    so, the truth gray with the values 0 and 255. On the grid `resized` these are the arrays, and the spacing is scaled
    with them; on `original`, the files' own pixels (values mapped by `data.intensity`) and spacing. The image comes
    back, `(H, W)` or `(H, W, 3)` with red first, by `decode(png).content` of `data.io.images`.
    """

    def case(index: int, row: Any) -> dict[str, Any]:
        spacing_mm = (float(row.spacing_row), float(row.spacing_col))
        if evaluate.grid == "resized":
            image, truth = arrays.images[index], arrays.masks[index]
            spacing_mm = grid_spacing(int(row.height), int(row.width), spacing_mm, data.image_size, data.resize)
        else:
            image, truth = read_image(row.image, data.intensity, data.channels), read_mask(row.mask)
        return {
            "image_id": row.image_id,
            "height": image.shape[0],
            "width": image.shape[1],
            "image": encode_png(image[..., ::-1] if image.ndim == 3 else image),
            "truth": encode_png(truth * np.uint8(255)),
            "spacing_row": spacing_mm[0],
            "spacing_col": spacing_mm[1],
        }

    columns = ["image_id", "image", "mask", "height", "width", "spacing_row", "spacing_col"]
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(frame), _CASES_AT_ONCE):
            rows = frame[columns].iloc[first : first + _CASES_AT_ONCE].itertuples(index=False)
            cases = list(pool.map(case, itertools.count(first), rows))
            yield pa.RecordBatch.from_pylist(cases, schema=CASES)
