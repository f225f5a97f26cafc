"""The copy of a data set: images, masks and manifest in a folder of their own."""

from __future__ import annotations

import csv
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.data.importers.cases import Case
from eus_ray.data.io.images import decode, decode_file, decode_labels, decode_mask, encode_png
from eus_ray.data.pseudonyms import Pseudonyms
from eus_ray.errors import UserError


def pseudonymise(case: Case, pseudonyms: Pseudonyms) -> Case:
    """Return the case under pseudonyms of its patient and image, without its own id."""
    columns = {name: value for name, value in case.columns.items() if name != "image_id"}
    patient = pseudonyms.of("patient", case.columns.get("patient_id", case.name))
    return replace(case, columns=columns | {"patient_id": patient}, pseudonym=pseudonyms.of("image", case.name))


def write_dataset(cases: list[Case], target: Path) -> None:
    """Write `images/`, `masks/` and `manifest.csv` to a folder that is new or empty.

    The folder is built aside and renamed, so that it appears whole or not at all.

    Raises:
        UserError: With one line for each file that cannot be copied; or if the folder cannot be written.
    """
    existing = next(folder for folder in target.absolute().parents if folder.is_dir())
    aside = existing / f".{target.name}.{uuid.uuid4().hex}"
    try:
        (aside / "images").mkdir(parents=True)
        (aside / "masks").mkdir()
        with ThreadPoolExecutor() as pool:
            lines = [line for problems in pool.map(lambda case: _copy(case, aside), cases) for line in problems]
        if lines:
            raise UserError(*lines)
        _write_manifest(cases, aside / "manifest.csv")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
        aside.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy(case: Case, folder: Path) -> list[str]:
    """Copy a case's image and the union of its masks; any problem prevents the copy."""
    problems: list[str] = []

    def decoded(path: Path, decoder: Callable[[bytes], npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
        try:
            return decode_file(path, decoder)
        except UserError as error:
            problems.extend(error.lines)
            return None

    image = decoded(case.image, decode)
    masks = [decoded(path, decode_labels if case.has_labels else decode_mask) for path in case.masks]
    for path, mask in zip(case.masks, masks, strict=True):
        if image is not None and mask is not None and mask.shape != image.shape:
            (height, width), (mask_height, mask_width) = image.shape, mask.shape
            problems.append(f"{path}: is {mask_height} × {mask_width} pixels, {case.image.name} {height} × {width}")
    if problems:
        return problems
    content = case.image.read_bytes()
    if case.pseudonym:
        pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
            kind = "a format" if pixels is None else f"{pixels.dtype} values"
            return [f"{case.image}: has {kind} that a PNG cannot hold without loss; save it with 8 or 16 bits"]
        content = encode_png(pixels)
    image_file, mask_file = case.files
    (folder / image_file).write_bytes(content)
    lesion = np.any([mask != 0 for mask in masks], axis=0)
    (folder / mask_file).write_bytes(encode_png(lesion * np.uint8(255)))
    return []


def _write_manifest(cases: list[Case], path: Path) -> None:
    extra = list(dict.fromkeys(name for case in cases for name in case.columns if name != "patient_id"))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "mask", "patient_id", *extra])
        for case in cases:
            patient = case.columns.get("patient_id", case.name)
            table.writerow([*case.files, patient, *(case.columns.get(name, "") for name in extra)])
