"""Data sets in other layouts, copied into a folder of their own with a manifest.

| format   | what is read |
|----------|--------------|
| `pairs`  | `images/` and `masks/`, paired by name: `a.png` with `a.png` or `a_mask.png`, any suffix |
| `nnunet` | an nnU-Net raw data set of 2-D images: `dataset.json`, `imagesTr/*_0000.png`, `labelsTr/*.png` |
| `busbra` | BUS-BRA as published: `bus_data.csv`, `Images/`, `Masks/`, `5-fold-cv.csv` where it is there |
| `busi`   | BUSI as published: `benign/`, `malignant/`, `normal/` with `name.png`, `name_mask.png`, `name_mask_1.png` |

Images are copied byte for byte. Masks become 8-bit PNG, 0 and 255; several masks of an image, or several
foreground labels, become their union. `pairs`, `nnunet` and `busi` say nothing about patients: a table
`patients.csv` in the source (`image`: a file's name with or without suffix, `patient_id`, and any further
columns of a manifest) does; without it each image is a patient of its own, and a note says what that risks.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.data.io.images import LOSSLESS_SUFFIXES as LOSSLESS
from eus_ray.data.io.images import SUFFIXES, decode, decode_labels, decode_mask
from eus_ray.data.io.tables import MISSING, Table, read_table
from eus_ray.data.pseudonyms import Pseudonyms
from eus_ray.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Imported:
    """A data set that was imported: its manifest, and what a person should know about it."""

    manifest: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Case:
    """One image of the source, its masks (their union is the lesion), and its row of the manifest."""

    image: Path
    masks: tuple[Path, ...]
    columns: dict[str, str] = field(default_factory=dict)
    has_labels: bool = False
    """The masks may hold several values; every one but 0 is lesion."""
    pseudonym: str = ""
    """What the copies are called, where their own name is not to be seen."""

    @property
    def name(self) -> str:
        return self.columns.get("image_id", self.image.stem)

    @property
    def files(self) -> tuple[str, str]:
        """Image and mask below the new folder."""
        stem = self.pseudonym or self.image.stem
        return f"images/{f'{stem}.png' if self.pseudonym else self.image.name}", f"masks/{stem}.png"


Reader = Callable[[Path], tuple[list[_Case], list[str]]]
_READERS: dict[str, Reader] = {}


def _reads(name: str) -> Callable[[Reader], Reader]:
    def register(reader: Reader) -> Reader:
        _READERS[name] = reader
        return reader

    return register


def import_dataset(format: str, source: Path, target: Path, pseudonyms: Pseudonyms | None = None) -> Imported:
    """Copy a data set of one of the formats into `target`, with a manifest; the source stays as it is.

    With `pseudonyms`, keyed hashes stand for patients and images, files are called by them, and images are written
    anew as PNG, which leaves behind what their files say besides pixels. Other columns stay, and a note names them.
    Nothing is written where something is wrong: the copy is built aside and renamed. Raises `UserError` with
    a line for each defect: an unknown format, a layout that is not the format's, images without mask or
    masks without image, files that cannot be read whole, a `target` that holds something.
    """
    if format not in _READERS:
        raise UserError(f"{format}: no such format{did_you_mean(format, _READERS)}")
    if not source.is_dir():
        raise UserError(f"{source}: is not a folder; name the one that holds the data set")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is not empty; choose a new folder")
    cases, notes = _READERS[format](source)
    if not cases:
        raise UserError(f"{source}: holds no images")
    if pseudonyms is not None:
        cases = [_nameless(case, pseudonyms) for case in cases]
        kept = sorted({name for case in cases for name in case.columns} - {"patient_id"})
        seen = f"; {', '.join(kept)} stayed as they were: see that they name nobody" if kept else ""
        notes = [f"patients and images have pseudonyms{seen}", *notes]
    there = next(folder for folder in target.absolute().parents if folder.is_dir())
    aside = there / f".{target.name}.{uuid.uuid4().hex}"
    try:
        _write(cases, aside)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
        aside.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Imported(target / "manifest.csv", tuple(notes))


def _write(cases: list[_Case], folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()

    def copy(case: _Case) -> list[str]:
        problems: list[str] = []
        image, content = _decoded(case.image, decode, problems)
        decoder = decode_labels if case.has_labels else decode_mask
        masks = [(path, _decoded(path, decoder, problems)[0]) for path in case.masks]
        for path, mask in masks:
            if image is not None and mask is not None and mask.shape != image.shape:
                (height, width), (mask_height, mask_width) = image.shape, mask.shape
                problems.append(f"{path}: is {mask_height} × {mask_width} pixels, {case.image.name} {height} × {width}")
        if not problems:
            lesion = np.any([mask != 0 for _, mask in masks], axis=0)
            image_file, mask_file = case.files
            if case.pseudonym:
                pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
                if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
                    kind = "a format" if pixels is None else f"{pixels.dtype} values"
                    return [f"{case.image}: has {kind} that a PNG cannot hold without loss; save it with 8 or 16 bits"]
                content = cv2.imencode(".png", pixels)[1].tobytes()
            (folder / image_file).write_bytes(content)
            png = cv2.imencode(".png", lesion * np.uint8(255))[1]
            (folder / mask_file).write_bytes(png.tobytes())
        return problems

    with ThreadPoolExecutor() as pool:
        lines = [line for problems in pool.map(copy, cases) for line in problems]
    if lines:
        raise UserError(*lines)
    extra = list(dict.fromkeys(name for case in cases for name in case.columns if name != "patient_id"))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "mask", "patient_id", *extra])
        for case in cases:
            row = {"patient_id": case.name, **case.columns}
            table.writerow([*case.files, row["patient_id"], *(row.get(name, "") for name in extra)])


def _nameless(case: _Case, pseudonyms: Pseudonyms) -> _Case:
    """The case under pseudonyms; its image is called by its patient and its own."""
    columns = {name: value for name, value in case.columns.items() if name != "image_id"}
    patient = pseudonyms.of("patient", case.columns.get("patient_id", case.name))
    return replace(case, columns=columns | {"patient_id": patient}, pseudonym=pseudonyms.of("image", case.name))


def _decoded(
    path: Path, decoder: Callable[[bytes], npt.NDArray[Any]], problems: list[str]
) -> tuple[npt.NDArray[Any] | None, bytes]:
    """A file's pixels and content; no pixels, and one problem more, where it cannot be read."""
    content = b""
    try:
        content = path.read_bytes()
        return decoder(content), content
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
    except ValueError as error:
        problems.append(f"{path}: {error}")
    return None, content


# ---- parts of layouts -------------------------------------------------------------------------------


def _pictures(folder: Path, suffixes: Iterable[str] = SUFFIXES) -> dict[str, Path]:
    """The pictures of a folder by stem, sorted. Raises `UserError`: no such folder, one stem twice, blanks."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; the format needs it")
    found: dict[str, Path] = {}
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(tuple(suffixes)) or not path.is_file():
            continue
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        if shown != str(path):  # as from an archive in another encoding
            lines.append(f"{shown}: its name is not UTF-8; rename it")
        elif path.name != path.name.strip():
            lines.append(f"{path}: its name begins with a blank; rename it")
        if path.stem in found:
            lines.append(f"{path}: there is {found[path.stem].name} too; keep one, or rename one")
        found[path.stem] = path
    if lines:
        raise UserError(*lines)
    return found


def _with_patients(source: Path, cases: list[_Case]) -> tuple[list[_Case], list[str]]:
    """The cases with the columns of `patients.csv`, or as they are with a note."""
    path = source / "patients.csv"
    if not path.is_file():
        note = (
            "the source names no patients, so each image is a patient of its own; where images share a patient, "
            f"training and test would too: write {path} (image, patient_id) and import again"
        )
        return cases, [note]
    table = read_table(path)
    lines = [f"{path}: {defect}" for defect in table.defects]
    lines += [f"{path}: there is no column {name}" for name in ("image", "patient_id") if name not in table.columns]
    if lines:
        raise UserError(*lines)
    rows: dict[str, dict[str, str]] = {}
    for number, row in zip(table.numbers, _records(table), strict=True):
        key = row.pop("image")
        key = Path(key).stem if key.lower().endswith(SUFFIXES) else key
        row.pop("mask", None)
        if key in rows:
            lines.append(f"{path}: row {number}: image {key} is there already")
        if row["patient_id"] in MISSING:
            lines.append(f"{path}: row {number}: patient_id is missing")
        rows[key] = row
    named = []
    for case in cases:
        row = rows.pop(case.name if case.name in rows else case.image.stem, {})
        if not row:
            lines.append(f"{path}: has no row for {case.image.name}")
        else:
            named.append(replace(case, columns={**row, **case.columns}))
    if lines:
        raise UserError(*lines)
    return named, [f"{path}: {len(rows)} rows name no image, such as {min(rows)}"] if rows else []


def _records(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


# ---- formats ----------------------------------------------------------------------------------------


@_reads("pairs")
def _pairs(source: Path) -> tuple[list[_Case], list[str]]:
    images, masks = _pictures(source / "images"), _pictures(source / "masks")
    cases, lines = [], []
    for stem, image in images.items():
        names = [name for name in (stem, f"{stem}_mask") if name in masks]
        if len(names) != 1:
            found = " and ".join(masks[name].name for name in names) or "no mask"
            lines.append(f"{image}: has {found} in masks; one is needed, {stem}.png or {stem}_mask.png")
            continue
        cases.append(_Case(image, (masks.pop(names[0]),)))
    lines += [f"{path}: has no image" for stem, path in masks.items() if stem.removesuffix("_mask") not in images]
    if lines:
        raise UserError(*lines)
    return _with_patients(source, cases)


@_reads("nnunet")
def _nnunet(source: Path) -> tuple[list[_Case], list[str]]:
    about = _dataset_json(source / "dataset.json")
    ending = about.get("file_ending", ".nii.gz")
    if ending not in LOSSLESS:
        raise UserError(
            f"{source / 'dataset.json'}: file_ending is {ending}; only 2-D images ({', '.join(LOSSLESS)}) are read: "
            "export the slices as PNG"
        )
    labels = [name for name in about.get("labels", {}) if name != "background"]
    if "ignore" in labels:
        raise UserError(f"{source / 'dataset.json'}: has an ignore label, which a mask cannot hold; relabel its pixels")
    images, masks = _pictures(source / "imagesTr", [ending]), _pictures(source / "labelsTr", [ending])
    channels = {stem.rpartition("_")[2] for stem in images}
    lines, cases = [], []
    for stem, image in images.items():
        name, _, channel = stem.rpartition("_")
        if not name or not re.fullmatch(r"\d{4}", channel):
            lines.append(f"{image}: is not named CASE_0000{ending}")
        elif channel == "0000" and name not in masks:
            lines.append(f"{image}: has no {name}{ending} in labelsTr")
        elif channel == "0000":
            cases.append(_Case(image, (masks[name],), {"image_id": name}, has_labels=True))
    lines += [
        f"{path}: has no {name}_0000{ending} in imagesTr"
        for name, path in masks.items()
        if f"{name}_0000" not in images
    ]
    if lines:
        raise UserError(*lines)
    notes = []
    if len(labels) > 1:
        notes.append(f"the labels {', '.join(labels)} became one lesion")
    if channels > {"0000"}:
        notes.append(f"of {len(channels)} channels the first was taken")
    if (source / "imagesTs").is_dir():
        notes.append("imagesTs was left out: cross-validation tests on the training cases")
    named, more = _with_patients(source, cases)
    return named, notes + more


def _dataset_json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); nnU-Net's raw data sets have it") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from None
    if not isinstance(about, dict) or not isinstance(about.get("labels", {}), dict):
        raise UserError(f"{path}: is not an nnU-Net data set's")
    return about


@_reads("busbra")
def _busbra(source: Path) -> tuple[list[_Case], list[str]]:
    path = source / "bus_data.csv"
    table = read_table(path)
    known = {name.casefold(): name for name in table.columns}
    lines = [f"{path}: {defect}" for defect in table.defects]
    lines += [f"{path}: there is no column {name}" for name in ("ID", "Case") if name.casefold() not in known]
    if lines:
        raise UserError(*lines)
    images, masks = _pictures(source / "Images"), _pictures(source / "Masks")
    folds = {}
    if (source / "5-fold-cv.csv").is_file():
        folds = {row.get("ID", ""): row.get("kFold", "") for row in _records(read_table(source / "5-fold-cv.csv"))}
    cases = []
    for number, row in zip(table.numbers, _records(table), strict=True):
        id_, case = row[known["id"]], row[known["case"]]
        image, mask = images.pop(id_, None), masks.get(f"mask_{id_.removeprefix('bus_')}")
        if image is None or mask is None or case in MISSING:
            lacks = ["image"] * (image is None) + ["mask"] * (mask is None) + ["Case"] * (case in MISSING)
            lines.append(f"{path}: row {number}: {id_ or 'no ID'} has no {' and no '.join(lacks)}, or is there twice")
            continue
        names = ("Pathology", "BIRADS", "Histology", "Device", "Side")
        columns = {name.lower(): row[known[name.casefold()]] for name in names if name.casefold() in known}
        if folds:
            columns["source_kfold5"] = folds.get(id_, "")
        patient = f"P{int(case):04d}" if case.isdecimal() else case
        cases.append(_Case(image, (mask,), {"patient_id": patient, **columns}))
    if lines:
        raise UserError(*lines)
    return cases, [f"{len(images)} images have no row in {path.name} and were left out"] if images else []


@_reads("busi")
def _busi(source: Path) -> tuple[list[_Case], list[str]]:
    root = source / "Dataset_BUSI_with_GT"
    root = root if root.is_dir() else source
    cases, lines = [], []
    for pathology in ("benign", "malignant", "normal"):
        pictures = _pictures(root / pathology)
        masks: dict[str, list[Path]] = {}
        images = {}
        for stem, path in pictures.items():
            if is_mask := re.fullmatch(r"(.+)_mask(_\d+)?", stem):
                masks.setdefault(is_mask[1], []).append(path)
            else:
                images[stem] = path
        for stem, image in images.items():
            if stem not in masks:
                lines.append(f"{image}: has no {stem}_mask.png")
            cases.append(_Case(image, tuple(masks.pop(stem, ())), {"pathology": pathology}))
        lines += [f"{path}: has no image" for paths in masks.values() for path in paths]
    stems = [case.image.stem for case in cases]
    lines += [f"{case.image}: its name is there twice" for case in cases if stems.count(case.image.stem) > 1]
    if lines:
        raise UserError(*lines)
    named, notes = _with_patients(source, cases)
    united = sum(len(case.masks) > 1 for case in named)
    notes += [f"{united} images have several masks, which became one"] if united else []
    notes.append('the published set repeats pictures: data.duplicates = "warn" is needed to use it as it is')
    return named, notes
