"""The columns of a manifest and their cells; nothing here opens an image."""

from __future__ import annotations

import difflib
import math
from collections import defaultdict
from collections.abc import Sequence

from eus_ray.data.io.tables import MISSING, Lines, Table, repeated

REQUIRED = ("image", "mask", "patient_id")
OPTIONAL = ("image_id", "fold", "spacing_mm", "spacing_row_mm", "spacing_col_mm")
RESERVED = frozenset(
    {"model", "kind", "tp", "fp", "fn", "tn", "dsc", "iou", "sen", "sp", "pc", "acc", "auc"}
    | {"hd", "hd95", "hd95_pooled", "avd", "mad", "assd", "avd_truth_to_pred", "avd_pred_to_truth"}
    | {"nsd", "hd_largest", "empty", "brier", "ece", "brier_box", "ece_box"}
    | {"missed", "false_alarm", "components", "spacing_row", "spacing_col", "lesion_share", "diagonal"}
    | {"unit", "grid"}
)
"""Columns of the tables of results, to which clinical columns are added."""


def column_defects(table: Table, required: Sequence[str] = REQUIRED) -> list[str]:
    """Return the defects of the columns' names, a line each."""
    lines: list[str] = []
    names = table.columns
    for name in required:
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


def check_cells(table: Table, cells: dict[str, list[str]], defects: Lines) -> None:
    """Add the defects of cells.

    These are cells that are missing or not of their kind, and rows that contradict each other.

    Args:
        table: The table, for its row numbers.
        cells: The cells of each column to check, one a row.
        defects: Takes one line for each defect.
    """
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
        for number, first in repeated(table, cells["image_id"]):
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


def spacing_mm(cells: dict[str, list[str]], num_rows: int) -> tuple[list[float], list[float]]:
    """Return the spacing of rows and columns in mm, `num_rows` each; NaN if none."""
    none = ["nan"] * num_rows
    row = cells.get("spacing_mm", cells.get("spacing_row_mm", none))
    column = cells.get("spacing_mm", cells.get("spacing_col_mm", none))
    return [float(cell) for cell in row], [float(cell) for cell in column]
