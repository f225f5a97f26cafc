"""The images and truths of a study as the networks saw them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from eus_ray.analysis.measures.thumbnails import decode_png
from eus_ray.data.io.images import decode
from eus_ray.store import CASES_FILE, Store


@dataclass(frozen=True)
class Case:
    """One image's truth on the evaluation grid."""

    truth_png: bytes
    height: int
    width: int
    spacing: tuple[float, float]
    """Rows and columns in mm; (1, 1), which is pixels, if the manifest has none."""
    in_mm: bool

    def truth(self) -> npt.NDArray[np.bool_]:
        """Return the mask `(height, width)`. Raises `ValueError` if it cannot be decoded."""
        return decode_png(self.truth_png) > 0


def read_cases(store: Store) -> dict[str, Case]:
    """Read truth, size and spacing by image_id; nothing before they are written."""
    if not store.exists(CASES_FILE):
        return {}
    columns = ["image_id", "height", "width", "truth", "spacing_row", "spacing_col"]
    cases = {}
    for row in store.read_table(CASES_FILE, columns).to_pylist():
        steps = (row["spacing_row"], row["spacing_col"])
        in_mm = all(step is not None and step == step for step in steps)
        cases[row["image_id"]] = Case(row["truth"], row["height"], row["width"], steps if in_mm else (1.0, 1.0), in_mm)
    return cases


def case_images(store: Store, wanted: Collection[str]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield image_id and pixels of the wanted images: `(H, W)`, in colour `(H, W, 3)` with red first.

    They come in the order of the file, and few are in memory at a time.
    """
    with store.fs.open_input_file(store.path(CASES_FILE)) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(32, columns=["image_id", "image"]):
            for image_id, png in zip(batch["image_id"].to_pylist(), batch["image"], strict=True):
                if image_id in wanted:
                    yield image_id, decode(png.as_py()).content.astype(np.uint8, copy=False)
