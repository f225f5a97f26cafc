"""The copy of a data set: images, masks and manifest in a folder of their own."""

from __future__ import annotations

import csv
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from eus_ray.data.importers.cases import Case
from eus_ray.data.io.images import Picture, Remark, Values, encode_png, read_picture, told_remarks
from eus_ray.data.pseudonyms import Pseudonyms
from eus_ray.errors import UserError


def pseudonymise(case: Case, pseudonyms: Pseudonyms) -> Case:
    """Return the case under pseudonyms of its patient and image, without its own id."""
    columns = {name: value for name, value in case.columns.items() if name != "image_id"}
    patient = pseudonyms.of("patient", case.patient)
    return replace(case, columns=columns | {"patient_id": patient}, pseudonym=pseudonyms.of("image", case.name))


def write_dataset(cases: list[Case], target: Path) -> list[str]:
    """Write `images/`, `masks/` and `manifest.csv` to a folder that is new or empty.

    The folder is built aside and renamed, so that it appears whole or not at all.

    Returns:
        Notes on how files were read.

    Raises:
        UserError: With one line for each file that cannot be copied; or if the folder cannot be written.
    """
    existing = next(folder for folder in target.absolute().parents if folder.is_dir())
    aside = existing / f".{target.name}.{uuid.uuid4().hex}"
    try:
        (aside / "images").mkdir(parents=True)
        (aside / "masks").mkdir()
        with ThreadPoolExecutor() as pool:
            copied = list(pool.map(lambda case: _copy(case, aside), cases))
        if lines := [line for problems, _ in copied for line in problems]:
            raise UserError(*lines)
        _write_manifest(cases, aside / "manifest.csv")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
        aside.rename(target)
        return told_remarks(remark for _, remarks in copied for remark in remarks)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy(case: Case, folder: Path) -> tuple[list[str], list[tuple[Path, Remark]]]:
    """Copy a case's image and the union of its masks, and return problems and remarks; a problem prevents the copy."""
    problems: list[str] = []
    pictures: list[Picture] = []
    for path in (case.image, *case.masks):
        try:
            pictures.append(read_picture(path, lambda picture: picture))
        except UserError as error:
            problems.extend(error.lines)
    if problems:
        return problems, []
    image, *others = pictures
    masks = []
    for path, picture in zip(case.masks, others, strict=True):
        try:
            masks.append(_named_labels(picture, case.labels) if case.labels else picture.mask())
        except ValueError as error:
            problems.append(f"{path}: {error}")
        (height, width), (mask_height, mask_width) = image.gray.shape, picture.gray.shape
        if (height, width) != (mask_height, mask_width):
            problems.append(f"{path}: is {mask_height} × {mask_width} pixels, {case.image.name} {height} × {width}")
    anew = None
    if case.pseudonym:
        if image.content.dtype not in (np.uint8, np.uint16):
            problems.append(
                f"{case.image}: has {image.content.dtype} values that a PNG cannot hold without loss; save it with 8 "
                "or 16 bits"
            )
        else:
            anew = encode_png(image.content[..., ::-1] if image.content.ndim == 3 else image.content)
    if not problems:
        image_file, mask_file = (folder / name for name in case.files)
        for file in (image_file, mask_file):
            file.parent.mkdir(parents=True, exist_ok=True)
        image_file.write_bytes(case.image.read_bytes() if anew is None else anew)
        mask_file.write_bytes(encode_png(np.any([mask != 0 for mask in masks], axis=0) * np.uint8(255)))
    files = zip((case.image, *case.masks), pictures, strict=True)
    return problems, [(path, remark) for path, picture in files for remark in picture.remarks]


def _named_labels(picture: Picture, labels: frozenset[int]) -> Values:
    """Return a file's labels. Raises ValueError if it holds others than those."""
    values = picture.labels()
    strangers = sorted(set(np.unique(values).tolist()) - labels)
    if strangers:
        raise ValueError(
            f"has the values {', '.join(f'{value:g}' for value in strangers[:5])}, which are none of the labels "
            f"{', '.join(map(str, sorted(labels)))}; name them, or relabel their pixels"
        )
    return values


def _write_manifest(cases: list[Case], path: Path) -> None:
    extra = list(dict.fromkeys(name for case in cases for name in case.columns if name != "patient_id"))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "mask", "patient_id", *extra])
        for case in cases:
            table.writerow([*case.files, case.patient, *(case.columns.get(name, "") for name in extra)])
