"""The manifest: one row an image, read and checked whole before anything is trained.

A manifest is a CSV (UTF-8, commas) or Parquet table with `image`, `mask`, `patient_id`, optionally
`image_id`, `fold`, and `spacing_mm` or `spacing_row_mm` with `spacing_col_mm`; every other column is
clinical. Paths are relative to the table and stay within its folder. Every defect is reported at once, by
the row as a spreadsheet counts them: the header is row 1.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pandas as pd

from eus_ray.config import UserError
from eus_ray.data.arrays import decode, decode_mask, to_uint8
from eus_ray.data.leakage import Look, find_copies, look
from eus_ray.data.table import MISSING, Table, read_table

REQUIRED = ("image", "mask", "patient_id")
OPTIONAL = ("image_id", "fold", "spacing_mm", "spacing_row_mm", "spacing_col_mm")
FRAME = ("image_id", "patient_id", "image", "mask", "height", "width", "spacing_row", "spacing_col", "lesion_share")
"""What a checked manifest's frame begins with; `fold` may follow, then the clinical columns."""
RESERVED = frozenset(
    {"model", "kind", "tp", "fp", "fn", "tn", "dsc", "iou", "sen", "sp", "pc", "acc", "auc"}
    | {"hd", "hd95", "hd95_pooled", "avd", "mad", "assd", "avd_truth_to_pred", "avd_pred_to_truth"}
    | {"missed", "false_alarm", "components", "spacing_row", "spacing_col", "lesion_share"}
)
"""Names of our own columns in the tables that clinical columns are written to."""


@dataclass(frozen=True)
class Manifest:
    """A checked manifest.

    `frame`: one row an image in the table's order, with the columns `FRAME` (paths absolute, sizes in
    original pixels, spacing in mm or NaN, `lesion_share` the share of mask pixels), then `fold` (int) where
    the table has it, then the clinical columns. `near_duplicates_within`: pairs of images of one patient
    that are nearly the same picture. `fingerprint`: sha256 of ids, file contents and spacing, whatever the
    order of the rows and the place of the files.
    """

    path: Path
    frame: pd.DataFrame
    warnings: tuple[str, ...]
    near_duplicates_within: int
    fingerprint: str


@dataclass(frozen=True)
class _Case:
    """What is kept of one row's files; what could not be read is empty, and `problems` says why."""

    problems: list[str]
    notes: list[str]
    height: int = 0
    width: int = 0
    lesion_share: float = 0.0
    digests: tuple[str, ...] = ()
    look: Look | None = None


class _Lines:
    """Lines about rows, told in the order of the rows whatever the order they were found in."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []

    def add(self, row: int, text: str) -> None:
        self.found.append((row, f"row {row}: {text}"))

    def told(self) -> list[str]:
        return [line for _, line in sorted(self.found, key=lambda one: one[0])]


def read_manifest(path: Path, duplicates: Literal["stop", "warn"] = "stop") -> Manifest:
    """Read a manifest and check all of it: the table, every image and mask (decoded whole), the patients.

    The same picture under two patients, exactly or nearly, is a defect; with `duplicates="warn"` a warning.
    Raises `UserError` with one line for each defect.
    """
    path = Path(path)
    folder = path.parent.resolve()
    table = read_table(path)
    header, defects, warnings = [*table.defects, *_column_defects(table)], _Lines(), _Lines()
    cells = {name: table.column(name) for name in (*REQUIRED, *OPTIONAL) if name in table.columns}
    _check_cells(table, cells, defects)
    images, masks = (_locate_all(table, cells, kind, folder, defects) for kind in ("image", "mask"))
    with ThreadPoolExecutor() as pool:
        cases = list(pool.map(partial(_inspect, folder), images, masks))
    for number, case in zip(table.numbers, cases, strict=True):
        for text in case.problems:
            defects.add(number, text)
        for text in case.notes:
            warnings.add(number, text)
    header += _size_columns(table, cases)
    leaks, within = _find_leaks(table, cells, cases)
    for row, text in leaks:
        if duplicates == "warn":
            warnings.add(row, text)
        else:
            defects.add(row, f'{text}; keep one, give both one patient_id, or set data.duplicates = "warn"')
    if header or defects.found:
        raise UserError(*(f"{path}: {line}" for line in [*header, *defects.told()]))

    row_spacing, col_spacing = _spacing(cells, len(cases))
    clinical = [name for name in table.columns if name not in (*REQUIRED, *OPTIONAL, "height", "width")]
    frame = pd.DataFrame(
        {
            "image_id": _image_ids(cells),
            "patient_id": cells["patient_id"],
            "image": [str(file) for file in images],
            "mask": [str(file) for file in masks],
            "height": [case.height for case in cases],
            "width": [case.width for case in cases],
            "spacing_row": row_spacing,
            "spacing_col": col_spacing,
            "lesion_share": [case.lesion_share for case in cases],
            **({"fold": [int(cell) for cell in cells["fold"]]} if "fold" in cells else {}),
            **{name: _typed(table.column(name)) for name in clinical},
        }
    )
    prints = sorted(
        [row.image_id, row.patient_id, *case.digests, str(row.spacing_row), str(row.spacing_col)]
        for row, case in zip(frame.itertuples(), cases, strict=True)
    )
    fingerprint = hashlib.sha256(json.dumps(prints).encode()).hexdigest()
    told = (f"{path}: {line}" for line in [*_near_names(table), *_near_patients(cells), *warnings.told()])
    return Manifest(path, frame, tuple(told), within, fingerprint)


def clinical_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of a manifest's frame that are the user's own."""
    return [str(column) for column in frame.columns if column not in (*FRAME, "fold")]


# ---- columns ----------------------------------------------------------------------------------------


def _column_defects(table: Table) -> list[str]:
    """Defects of the header. Blanks around a name are cut off, so that one mistake is one line."""
    lines: list[str] = []
    for index, name in enumerate(table.columns):
        if name != name.strip():
            lines.append(f"column {name!r} has blanks around its name; write {name.strip()!r}")
            table.columns[index] = name.strip()
        elif not name:
            lines.append(f"column {index + 1} has no name; name it, or drop it")
    names = table.columns
    lines += [f"column {name} is there twice" for name in dict.fromkeys(names) if name and names.count(name) > 1]
    for name in REQUIRED:
        if name not in names:
            near = {known.casefold(): known for known in names if known not in (*REQUIRED, *OPTIONAL)}
            close = difflib.get_close_matches(name, near, n=1, cutoff=0.5)
            hint = f"rename {near[close[0]]}?" if close else f"there is {', '.join(filter(None, names))}"
            lines.append(f"there is no column {name}; {hint}")
    both = [name for name in ("spacing_row_mm", "spacing_col_mm") if name in names]
    if "spacing_mm" in names and both:
        lines.append(f"there is spacing_mm and {' and '.join(both)}; keep spacing_mm, or the two for row and column")
    elif len(both) == 1:
        other = {"spacing_row_mm": "spacing_col_mm", "spacing_col_mm": "spacing_row_mm"}[both[0]]
        lines.append(f"there is {both[0]} but no {other}; give both, or spacing_mm for square pixels")
    for name in names:
        if name in RESERVED:
            lines.append(f"column {name} has a name that the results use; rename it, for example to clinical_{name}")
    return lines


def _near_names(table: Table) -> list[str]:
    """Warnings of columns that are one of the optional ones but for the way they are written."""
    plain = {re.sub(r"[\s_-]", "", name): name for name in OPTIONAL}
    found = [(name, plain.get(re.sub(r"[\s_-]", "", name).casefold())) for name in table.columns]
    return [
        f"column {name} is taken as clinical; write {meant} if it is that"
        for name, meant in found
        if meant and name != meant
    ]


def _near_patients(cells: dict[str, list[str]]) -> list[str]:
    """Warnings of patients whose ids differ in upper and lower case only."""
    spellings: dict[str, dict[str, None]] = defaultdict(dict)
    for patient in cells["patient_id"]:
        spellings[patient.casefold()][patient] = None
    return [
        f"patients {' and '.join(ids)} differ in upper and lower case only; they are taken as two patients"
        for ids in spellings.values()
        if len(ids) > 1
    ]


def _typed(cells: Sequence[str]) -> pd.Series:
    """A clinical column: whole numbers, numbers with NaN where missing, or text with None where missing.

    Numbers with leading zeros are text, and so are whole numbers of more than 15 digits: they are ids.
    """
    there = [cell for cell in cells if cell not in MISSING]
    number = re.compile(r"[+-]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
    if all(number.fullmatch(cell) and not re.fullmatch(r"[+-]?\d{16,}", cell) for cell in there):
        if there and len(there) == len(cells) and all(re.fullmatch(r"[+-]?\d+", cell) for cell in there):
            return pd.Series([int(cell) for cell in cells], dtype="int64")
        return pd.Series([float("nan") if cell in MISSING else float(cell) for cell in cells], dtype="float64")
    return pd.Series([None if cell in MISSING else cell for cell in cells], dtype="str")


# ---- cells ------------------------------------------------------------------------------------------


def _check_cells(table: Table, cells: dict[str, list[str]], defects: _Lines) -> None:
    for name, column in cells.items():
        for number, cell in zip(table.numbers, column, strict=True):
            if cell in MISSING:
                hint = "; give every row one, or drop the column" if name in OPTIONAL else ""
                defects.add(number, f"{name} is missing{hint}")
            elif name.startswith("spacing") and not _is_positive(cell):
                defects.add(number, f"{name} is {cell!r}; it must be a positive number of mm, such as 0.12")
            elif name == "fold" and not cell.isdecimal():
                defects.add(number, f"fold is {cell!r}; folds are whole numbers from 0")
    if "image_id" in cells:
        for number, first in _repeated(table, cells["image_id"]):
            defects.add(number, f"image_id is that of row {first}; each image needs its own")
    if "fold" in cells and "patient_id" in cells:
        rows_of: dict[str, dict[str, int]] = defaultdict(dict)
        for number, patient, fold in zip(table.numbers, cells["patient_id"], cells["fold"], strict=True):
            if patient not in MISSING and fold.isdecimal():
                rows_of[patient].setdefault(str(int(fold)), number)
        for patient, folds in rows_of.items():
            if len(folds) > 1:
                listed = " and ".join(f"{fold} (row {number})" for fold, number in folds.items())
                defects.add(list(folds.values())[1], f"patient {patient} is in folds {listed}; a patient has one")


def _is_positive(cell: str) -> bool:
    try:
        return 0 < float(cell) < math.inf
    except ValueError:
        return False


def _repeated(table: Table, keys: Sequence[object]) -> Iterator[tuple[int, int]]:
    """The row of each key that was there before, and the row where it first was; None and missing keys are none."""
    first: dict[object, int] = {}
    for number, key in zip(table.numbers, keys, strict=True):
        if key is not None and key not in MISSING and first.setdefault(key, number) != number:
            yield number, first[key]


def _spacing(cells: dict[str, list[str]], num_rows: int) -> tuple[list[float], list[float]]:
    none = ["nan"] * num_rows
    row = cells.get("spacing_mm", cells.get("spacing_row_mm", none))
    column = cells.get("spacing_mm", cells.get("spacing_col_mm", none))
    return [float(cell) for cell in row], [float(cell) for cell in column]


def _image_ids(cells: dict[str, list[str]]) -> list[str]:
    """The table's own ids; else the files' stems, the paths without suffix, or the paths: the first that differ."""
    if "image_id" in cells:
        return cells["image_id"]
    paths = [PurePosixPath(cell) for cell in cells["image"]]
    for ids in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if len(set(ids)) == len(ids):
            return ids
    return [str(path) for path in paths]


# ---- files ------------------------------------------------------------------------------------------


def _locate_all(
    table: Table, cells: dict[str, list[str]], kind: str, folder: Path, defects: _Lines
) -> list[Path | None]:
    """Each row's file, None where there is none that may be read."""
    located: list[Path | None] = []
    for number, written in zip(table.numbers, cells.get(kind, [""] * len(table.rows)), strict=True):
        located.append(None)
        if written not in MISSING:
            try:
                located[-1] = _resolve(folder, written)
            except ValueError as error:
                defects.add(number, f"{kind} {written} {error}")
    resolved = [path and path.resolve() for path in located]
    if kind == "image":
        for number, first in _repeated(table, resolved):
            defects.add(
                number, f"image {cells[kind][table.numbers.index(number)]} is that of row {first}; keep one row"
            )
    return located


def _resolve(folder: Path, written: str) -> Path:
    """The file that a table names, below `folder` (resolved).

    Raises ValueError, worded to follow the name: an absolute path, `..` or a link that leads out of the
    folder, or no such file. The folder itself may be a link.
    """
    path = PurePosixPath(written)
    if path.is_absolute() or re.match(r"[A-Za-z]:[\\/]|\\\\", written):
        raise ValueError("is an absolute path; write it relative to the manifest")
    if ".." in re.split(r"[\\/]", written):
        raise ValueError("leaves the manifest's folder with '..'; put the manifest above its images")
    try:
        found = (folder / path).resolve()
        inside, is_file = found.is_relative_to(folder), found.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a loop of links
        raise ValueError("is not a path that can be opened") from None
    if not inside:
        raise ValueError("is a link that leaves the manifest's folder; copy the file into it")
    if not is_file:
        hint = "; write / between folders" if "\\" in written else ""
        raise ValueError(f"is not a file{hint}" if found.exists() else f"is not there{hint}")
    return folder / path


def _inspect(folder: Path, image: Path | None, mask: Path | None) -> _Case:
    """Decode a row's files; what is wrong with them becomes the case's problems."""
    problems: list[str] = []
    notes: list[str] = []
    kept: dict[str, Any] = {}
    digests: list[str] = []
    shapes: list[tuple[int, ...]] = []
    for kind, path, decoder in (("image", image, decode), ("mask", mask, decode_mask)):
        if path is None:
            continue
        name = f"{kind} {path.relative_to(folder).as_posix()}"
        try:
            content = path.read_bytes()
            pixels = decoder(content)
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
            continue
        except ValueError as error:
            problems.append(f"{name} {error}")
            continue
        digests.append(hashlib.sha256(content).hexdigest())
        shapes.append(pixels.shape)
        if kind == "image":
            kept |= {"height": pixels.shape[0], "width": pixels.shape[1], "look": look(to_uint8(pixels, "auto"))}
            if pixels.min() == pixels.max():
                notes.append(f"{name} has one gray value only")
        else:
            kept["lesion_share"] = float(pixels.mean())
            if pixels.all():
                notes.append(f"{name} covers the whole image")
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        turned = "; one of them is turned" if shapes[0] == shapes[1][::-1] else ""
        (height, width), (mask_height, mask_width) = shapes
        problems.append(
            f"{name} is {mask_height} × {mask_width} pixels (rows × columns), its image {height} × {width}{turned}"
        )
    return _Case(problems, notes, digests=tuple(digests), **kept)


def _size_columns(table: Table, cases: Sequence[_Case]) -> list[str]:
    """Columns height and width may repeat the images' sizes in pixels; they may not be anything else."""
    lines = []
    for name in ("height", "width"):
        if name not in table.columns:
            continue
        for number, cell, case in zip(table.numbers, table.column(name), cases, strict=True):
            if case.look is not None and cell not in MISSING and _typed([cell]).iloc[0] != getattr(case, name):
                lines.append(
                    f"column {name} is {cell} in row {number}, where the image has {getattr(case, name)} pixels; "
                    f"correct it, or rename it if it is something else, for example to clinical_{name}"
                )
                break
    return lines


def _find_leaks(table: Table, cells: dict[str, list[str]], cases: Sequence[_Case]) -> tuple[list[tuple[int, str]], int]:
    """The same picture under two patients, by the later row; and how many pairs are within a patient."""
    patients = cells.get("patient_id", [])
    rows = [index for index, case in enumerate(cases) if case.look and patients and patients[index] not in MISSING]
    leaks, within = [], 0
    for copy in find_copies([looks for index in rows if (looks := cases[index].look)]):
        first, second = rows[copy.first], rows[copy.second]
        if patients[first] == patients[second]:
            within += 1
            continue
        same = "is the same picture as" if copy.exact else f"is nearly (correlation {copy.correlation:.3f})"
        leaks.append(
            (
                table.numbers[second],
                f"image {cells['image'][second]} of patient {patients[second]} {same} "
                f"{cells['image'][first]} of patient {patients[first]} (row {table.numbers[first]})",
            )
        )
    return leaks, within
