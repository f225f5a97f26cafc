"""Format `busbra`: BUS-BRA as published.

The files are `bus_data.csv`, `Images/`, `Masks/`, and `5-fold-cv.csv` if it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eus_ray.data.importers import importer
from eus_ray.data.importers.cases import Case, find_images
from eus_ray.data.io.tables import MISSING, read_table
from eus_ray.data.names import near_hint
from eus_ray.errors import UserError

_CLINICAL = ("pathology", "birads", "histology", "device", "side")


@importer
def read_busbra(source: Path) -> tuple[list[Case], list[str]]:
    """Read the images of `bus_data.csv`, whose column Case is the patient.

    The published folds become the clinical column `source_kfold5`.
    """
    path, folds_path = source / "bus_data.csv", source / "5-fold-cv.csv"
    numbers, rows, notes = _rows(path, ("ID", "Case"))
    images, masks = find_images(source / "Images"), find_images(source / "Masks")
    folds = {}
    if folds_path.exists():
        _, fold_rows, more = _rows(folds_path, ("ID", "kFold"))
        folds = {row["id"]: row["kfold"] for row in fold_rows}
        notes += more
    cases, lines = [], []
    for number, row in zip(numbers, rows, strict=True):
        id_, case = row["id"], row["case"]
        image, mask = images.pop(id_, None), masks.get(f"mask_{id_.removeprefix('bus_')}")
        if image is None or mask is None or case in MISSING:
            lacks = ["image"] * (image is None) + ["mask"] * (mask is None) + ["Case"] * (case in MISSING)
            hint = near_hint(id_, images) if image is None else ""
            lines.append(
                f"{path}: row {number}: {id_ or 'no ID'} has no {' and no '.join(lacks)}, or is there twice{hint}"
            )
            continue
        columns = {name: row[name] for name in _CLINICAL if name in row}
        if folds:
            columns["source_kfold5"] = folds.get(id_, "")
        patient = f"P{int(case):04d}" if case.isdecimal() else case
        cases.append(Case(image, (mask,), {"patient_id": patient, **columns}))
    if lines:
        raise UserError(*lines)
    if images:
        notes.append(f"{len(images)} images have no row in {path.name} and were left out")
    if folds and (without := sum(not case.columns["source_kfold5"] for case in cases)):
        notes.append(f"{without} images have no fold in {folds_path.name}")
    return cases, notes


def _rows(path: Path, needed: Sequence[str]) -> tuple[list[int], list[dict[str, str]], list[str]]:
    """Return the rows' numbers, the rows by column in small letters, and notes."""
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
    rows = [dict(zip(columns, row, strict=True)) for row in table.rows]
    return table.numbers, rows, [f"{path}: {warning}" for warning in table.warnings]
