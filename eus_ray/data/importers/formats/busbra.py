"""Format `busbra`: BUS-BRA as published.

The files are `bus_data.csv`, `Images/`, `Masks/`, and `5-fold-cv.csv` if it is there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from eus_ray.data.importers import importer
from eus_ray.data.importers.cases import Case, find_images
from eus_ray.data.io.tables import MISSING, Table, read_table, repeated
from eus_ray.data.names import near_hint, shown
from eus_ray.errors import UserError

_WHOLE = re.compile(r"(\d+)(\.0+)?")
_CLINICAL = ("pathology", "birads", "histology", "device", "side")


@importer
def read_busbra(source: Path) -> tuple[list[Case], list[str]]:
    """Read the images of `bus_data.csv`, whose column Case is the patient.

    The published folds become the clinical column `source_kfold5`. A case that is a whole number becomes `P0001`.
    """
    path, folds_path = source / "bus_data.csv", source / "5-fold-cv.csv"
    table, notes = _table(path, ("ID", "Case"))
    images, masks = find_images(source / "Images"), find_images(source / "Masks")
    folds: dict[str, str] = {}
    lines = _ids_again(path, table)
    if folds_path.exists():
        fold_table, more = _table(folds_path, ("ID", "kFold"))
        folds = dict(zip(fold_table.column("id"), fold_table.column("kfold"), strict=True))
        lines += _ids_again(folds_path, fold_table)
        notes += more
    if lines:
        raise UserError(*lines)
    cases = []
    written: dict[str, dict[str, None]] = defaultdict(dict)
    for number, row in zip(table.numbers, table.records(), strict=True):
        id_, case = row["id"], row["case"]
        image, mask = images.pop(id_, None), masks.get(f"mask_{id_.removeprefix('bus_')}")
        if image is None or mask is None or case in MISSING:
            lacks = ["image"] * (image is None) + ["mask"] * (mask is None) + ["Case"] * (case in MISSING)
            hint = near_hint(id_, images) if image is None else ""
            lines.append(f"{path}: row {number}: {shown(id_) or 'no ID'} has no {' and no '.join(lacks)}{hint}")
            continue
        columns = {name: row[name] for name in _CLINICAL if name in row}
        if folds:
            columns["source_kfold5"] = folds.get(id_, "")
        patient = _patient(case)
        written[patient][case] = None
        cases.append(Case(image, (mask,), {"patient_id": patient, **columns}))
    if lines:
        raise UserError(*lines)
    if images:
        notes.append(f"{len(images)} images have no row in {path.name} and were left out")
    for patient, spellings in written.items():
        if len(spellings) > 1:
            notes.append(f"{path}: Case {' and '.join(map(shown, spellings))} are taken as one patient, {patient}")
    if strangers := sorted(set(folds) - set(table.column("id"))):
        hint = near_hint(strangers[0], table.column("id"))
        notes.append(
            f"{folds_path}: {len(strangers)} rows name no ID of {path.name}, such as {shown(strangers[0])}{hint}"
        )
    if (source / "patients.csv").exists():
        notes.append(f"{source / 'patients.csv'} is not used: Case in {path.name} says which patient an image is of")
    if folds and (without := sum(not case.columns["source_kfold5"] for case in cases)):
        notes.append(f"{without} images have no fold in {folds_path.name}")
    return cases, notes


def _patient(case: str) -> str:
    """Return the patient of a case: `P` and four digits or more if it is a whole number, in any spelling."""
    if not (whole := _WHOLE.fullmatch(case)):
        return case
    return "P" + "".join(str(int(digit)) for digit in whole[1]).lstrip("0").zfill(4)


def _ids_again(path: Path, table: Table) -> list[str]:
    """Return a line for each row whose ID an earlier one has."""
    ids = dict(zip(table.numbers, table.column("id"), strict=True))
    return [
        f"{path}: row {number}: {shown(ids[number])} is there already, in row {first}; keep one row"
        for number, first in repeated(table, list(ids.values()))
    ]


def _table(path: Path, needed: Sequence[str]) -> tuple[Table, list[str]]:
    """Return a table with its columns in small letters, and notes."""
    table = read_table(path)
    columns = [name.casefold() for name in table.columns]
    other_cases = [name.casefold() for name in set(table.columns)]
    defects = [
        *table.defects,
        *(
            f"column {name} is there twice, but for its letters' case; keep one"
            for name in sorted({*other_cases})
            if other_cases.count(name) > 1
        ),
        *(f"there is no column {name}" for name in needed if name.casefold() not in columns),
    ]
    if defects:
        raise UserError(*(f"{path}: {defect}" for defect in defects))
    table.columns = columns
    return table, [f"{path}: {warning}" for warning in table.warnings]
