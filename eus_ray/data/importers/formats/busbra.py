"""Format `busbra`: BUS-BRA as published.

The files are `bus_data.csv`, `Images/`, `Masks/`, and `5-fold-cv.csv` if it is there.
"""

from __future__ import annotations

from pathlib import Path

from eus_ray.data.importers import importer
from eus_ray.data.importers.cases import Case, find_images
from eus_ray.data.io.tables import MISSING, read_table
from eus_ray.errors import UserError

_CLINICAL = ("Pathology", "BIRADS", "Histology", "Device", "Side")


@importer
def read_busbra(source: Path) -> tuple[list[Case], list[str]]:
    """Read the images of `bus_data.csv`, whose column Case is the patient.

    The published folds become the clinical column `source_kfold5`.
    """
    path = source / "bus_data.csv"
    table = read_table(path)
    known = {name.casefold(): name for name in table.columns}
    lines = [f"{path}: {defect}" for defect in table.defects]
    lines += [f"{path}: there is no column {name}" for name in ("ID", "Case") if name.casefold() not in known]
    if lines:
        raise UserError(*lines)
    images, masks = find_images(source / "Images"), find_images(source / "Masks")
    folds = {}
    if (source / "5-fold-cv.csv").is_file():
        folds = {row.get("ID", ""): row.get("kFold", "") for row in read_table(source / "5-fold-cv.csv").records()}
    cases = []
    for number, row in zip(table.numbers, table.records(), strict=True):
        id_, case = row[known["id"]], row[known["case"]]
        image, mask = images.pop(id_, None), masks.get(f"mask_{id_.removeprefix('bus_')}")
        if image is None or mask is None or case in MISSING:
            lacks = ["image"] * (image is None) + ["mask"] * (mask is None) + ["Case"] * (case in MISSING)
            lines.append(f"{path}: row {number}: {id_ or 'no ID'} has no {' and no '.join(lacks)}, or is there twice")
            continue
        columns = {name.lower(): row[known[name.casefold()]] for name in _CLINICAL if name.casefold() in known}
        if folds:
            columns["source_kfold5"] = folds.get(id_, "")
        patient = f"P{int(case):04d}" if case.isdecimal() else case
        cases.append(Case(image, (mask,), {"patient_id": patient, **columns}))
    if lines:
        raise UserError(*lines)
    return cases, [f"{len(images)} images have no row in {path.name} and were left out"] if images else []
