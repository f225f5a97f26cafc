"""What the rows of odd inputs are made of: small pictures, masks, tables and folders, written anew for each row."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
from PIL import Image

Pixels = npt.NDArray[np.generic]
Columns = Mapping[str, Sequence[object]]
SHAPE = (40, 48)
NUM = 6
"""Images of a set, each of a patient of its own."""
NFC, NFD = (unicodedata.normalize(form, "Müller_1") for form in ("NFC", "NFD"))


@cache
def picture(seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return smooth random gray values `(40, 48)`, like no other seed's."""
    noise = np.random.default_rng(seed).random(SHAPE).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def mask(seed: int = 0, value: int = 255) -> npt.NDArray[np.uint8]:
    """Return a mask `(40, 48)` with a lesion of 10 by 18 pixels, at another place for each seed below 20."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[5 + seed : 15 + seed, 12:30] = value
    return drawn


def save(path: Path, pixels: Pixels, **options: object) -> Path:
    """Write a picture in the format of the file's suffix: TIFF by tifffile, others by Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels, **options)  # type: ignore[arg-type]
    else:
        Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def save_as(path: Path, pixels: Pixels, format: str, **options: object) -> Path:
    """Write a picture in a format that its suffix does not say."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)  # type: ignore[arg-type]
    return put(path, stream.getvalue())


def put(path: Path, content: bytes | str) -> Path:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table_text(columns: Columns, separator: str = ",") -> str:
    """Return a table as a spreadsheet writes it."""
    stream = io.StringIO()
    rows = csv.writer(stream, delimiter=separator, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*columns.values(), strict=True))
    return stream.getvalue()


def write_table(path: Path, columns: Columns, separator: str = ",", encoding: str = "utf-8", before: str = "") -> Path:
    """Write a table; Parquet if the path ends so."""
    if path.suffix == ".parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(dict(columns)).to_parquet(path)
        return path
    return put(path, (before + table_text(columns, separator)).encode(encoding))


# ---- sets with a manifest -----------------------------------------------------------------------------


def set_columns(**changed: Sequence[object] | None) -> dict[str, Sequence[object]]:
    """Return the columns of the set's manifest, some replaced, added, or left out if None."""
    columns: dict[str, Sequence[object] | None] = {
        "image": [f"images/{n}.png" for n in range(NUM)],
        "mask": [f"masks/{n}.png" for n in range(NUM)],
        "patient_id": [f"X{n}" for n in range(NUM)],
        **changed,
    }
    return {name: cells for name, cells in columns.items() if cells is not None}


def write_pictures(here: Path) -> None:
    """Write six images and six masks."""
    for n in range(NUM):
        save(here / f"images/{n}.png", picture(n))
        save(here / f"masks/{n}.png", mask(n))


def a_set(
    name: str = "m.csv", separator: str = ",", encoding: str = "utf-8", before: str = "", **changed: object
) -> Callable[[Path], None]:
    """Return a maker of six pictures with a manifest, whose columns `changed` replaces."""

    def make(here: Path) -> None:
        write_pictures(here)
        write_table(here / name, set_columns(**changed), separator, encoding, before)  # type: ignore[arg-type]

    return make


def with_files(change: Callable[[Path], object], **changed: object) -> Callable[[Path], None]:
    """Return a maker of the set whose files are then changed."""

    def make(here: Path) -> None:
        a_set(**changed)(here)  # type: ignore[arg-type]
        change(here)

    return make


def raw(name: str, content: bytes | str) -> Callable[[Path], None]:
    """Return a maker of the pictures, and a file of this content."""

    def make(here: Path) -> None:
        write_pictures(here)
        put(here / name, content)

    return make


def nothing(_: Path) -> None:
    """Write nothing."""


def both(*makers: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a maker that calls several."""

    def make(here: Path) -> None:
        for one in makers:
            one(here)

    return make


# ---- sources of importers -----------------------------------------------------------------------------


def pairs(here: Path, names: Sequence[str] = ("a", "b", "c")) -> None:
    """Write a source of the format `pairs`."""
    for n, name in enumerate(names):
        save(here / f"src/images/{name}.png", picture(n))
        save(here / f"src/masks/{name}.png", mask(n))


def nnunet(here: Path, value: int = 1, **about: object) -> None:
    """Write two cases of nnU-Net, and what `dataset.json` says besides."""
    for n in range(2):
        save(here / f"src/imagesTr/c{n}_0000.png", picture(n))
        save(here / f"src/labelsTr/c{n}.png", mask(n, value))
    told = {"labels": {"background": 0, "lesion": 1}, "numTraining": 2, "file_ending": ".png", **about}
    put(here / "src/dataset.json", json.dumps(told))


def busi(here: Path) -> None:
    """Write one image of each kind as BUSI has them."""
    for n, kind in enumerate(("benign", "malignant", "normal")):
        save(here / f"src/{kind}/{kind} ({n}).png", picture(n))
        save(here / f"src/{kind}/{kind} ({n})_mask.png", mask(n, 0 if kind == "normal" else 255))


def busbra(here: Path, separator: str = ",", **changed: Sequence[object] | None) -> None:
    """Write two images of one patient and one of another as BUS-BRA has them."""
    ids = ["bus_0001-l", "bus_0001-r", "bus_0012-s"]
    for n, one in enumerate(ids):
        save(here / f"src/Images/{one}.png", picture(n))
        save(here / f"src/Masks/mask_{one[4:]}.png", mask(n))
    columns = {"ID": ids, "Case": [1, 1, 12], "Pathology": ["benign", "benign", "malignant"], **changed}
    kept = {name: cells for name, cells in columns.items() if cells is not None}
    write_table(here / "src/bus_data.csv", kept, separator)


# ---- scores, and masks to evaluate --------------------------------------------------------------------


def scores(models: Sequence[str] = ("unet",), **changed: Sequence[object]) -> dict[str, Sequence[object]]:
    """Return a score table's columns: 8 images of 4 patients for each model, DSC .71 to .78 and .02 less for the next.

    `changed` replaces or adds columns.
    """
    num = 8 * len(models)
    return {
        "model": [model for model in models for _ in range(8)],
        "image_id": [f"i{n % 8}" for n in range(num)],
        "patient_id": [f"X{n % 8 // 2}" for n in range(num)],
        "dsc": [f"{0.71 + n % 8 / 100 - n // 8 / 50:.3f}" for n in range(num)],
        **changed,
    }


def a_table(columns: Columns, name: str = "t.csv", **options: str) -> Callable[[Path], None]:
    """Return a maker of a table."""

    def make(here: Path) -> None:
        write_table(here / name, columns, **options)

    return make


def curves(**changed: Sequence[object]) -> dict[str, Sequence[object]]:
    """Return the columns of a search's scores: 2 trials, 2 folds of 3 patients, one epoch."""
    rows = [(trial, fold, image) for trial in range(2) for fold in range(2) for image in range(3)]
    return {
        "model": ["unet"] * 12,
        "trial": [trial for trial, _, _ in rows],
        "repeat": [0] * 12,
        "fold": [fold for _, fold, _ in rows],
        "epoch": [0] * 12,
        "image_id": [f"i{fold}{image}" for _, fold, image in rows],
        "patient_id": [f"X{fold}{image}" for _, fold, image in rows],
        "split": ["test"] * 12,
        "tp": [20 + 3 * n for n in range(12)],
        "fp": [5] * 12,
        "fn": [5] * 12,
        "tn": [4000] * 12,
        **changed,
    }


def statements(**changed: Sequence[object] | None) -> dict[str, Sequence[object]]:
    """Return a published table's columns: the DSC of two models."""
    columns: dict[str, Sequence[object] | None] = {
        "table": ["T1", "T1"],
        "group": ["unet", "daf_net"],
        "metric": ["dsc", "dsc"],
        "value": ["0.81", "0.83"],
        "sd": ["0.10", "0.09"],
        "n": [50, 50],
        "unit": ["", ""],
        **changed,
    }
    return {name: cells for name, cells in columns.items() if cells is not None}


def masks(here: Path, folder: str, suffix: str = ".png", shift: int = 0, num: int = 3) -> None:
    """Write masks 0, 1, 2, whose lesions lie `shift` columns to the right."""
    for n in range(num):
        save(here / f"{folder}/{n}{suffix}", np.roll(mask(n), shift, axis=1))


def two_folders(change: Callable[[Path], object] | None = None, suffix: str = ".png") -> Callable[[Path], None]:
    """Return a maker of `pred` and `true`; predictions lie 2 columns aside: DSC 16 / 18 = .889."""

    def make(here: Path) -> None:
        masks(here, "pred", suffix, shift=2)
        masks(here, "true", suffix)
        if change is not None:
            change(here)

    return make
