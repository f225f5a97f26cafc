"""Patient, fold, spacing and clinical columns of pairs of masks, from a manifest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from eus_ray.analysis.inputs.mask_files import without_suffix
from eus_ray.data.io.manifest_columns import OPTIONAL, REQUIRED, check_cells, column_defects, spacing_mm
from eus_ray.data.io.tables import MISSING, Lines, Table, names_alike, near_columns, read_table, typed
from eus_ray.data.names import alike, alike_key, composed, near_hint, shown
from eus_ray.data.signs import spacing_signs
from eus_ray.errors import UserError, collapsed

_NAMING = ("image_id", "mask", "image")
"""Columns that may name a pair; the one that names most pairs is used, the first of equals."""
_SIZE = ("height", "width")


class Described(NamedTuple):
    """The rows of a manifest that describe pairs."""

    frame: pd.DataFrame
    """One row a pair, in the manifest's order, with the pair's place in `names` as index: `image_id, patient_id`,
    `fold` if the manifest has it, `spacing_row, spacing_col` in mm or NaN, `height, width` in pixels or NaN, then
    the clinical columns."""
    clinical: list[str]
    num_unused: int
    """Rows of the manifest that describe no pair."""
    warnings: tuple[str, ...] = ()
    """What may have been meant otherwise."""


def undescribed(names: Sequence[str]) -> Described:
    """Return pairs without a manifest: each is a patient of its own, of unknown spacing and size."""
    frame = pd.DataFrame({"image_id": names, "patient_id": names}, dtype="str")
    frame = frame.assign(**dict.fromkeys(("spacing_row", "spacing_col", *_SIZE), math.nan))
    return Described(frame, [], 0, tuple(alike("image", names)))


def describe(path: Path, names: Sequence[str]) -> Described:
    """Find the rows of a manifest for pairs of masks.

    A row is named by its `image_id`, or by the path of its `mask` or `image` without suffix, whole or from any folder
    on: `masks/p1/a.png` is `p1/a` and `a`. Names pair whatever their encoding.

    Args:
        path: A CSV or Parquet table.
        names: The pairs' names.

    Raises:
        UserError: With a line for each defect: a table that is none, columns or cells that are wrong, a pair without a
            row or with several, a row that describes two pairs.
    """
    table = read_table(path)
    header, lines = [*table.defects, *column_defects(table, ("patient_id",))], Lines()
    naming = [column for column in _NAMING if column in table.columns]
    if not naming:
        header.append(f"there is no column {', '.join(_NAMING[:-1])} or {_NAMING[-1]}, which would name the masks")
    checked = [column for column in ("patient_id", *OPTIONAL) if column in table.columns]
    cells = {column: table.column(column) for column in checked}
    check_cells(table, cells, lines)
    rows, unclear = _rows_of(table, naming, names, lines) if naming else ([], [])
    if defects := [*header, *lines.told(), *unclear]:
        raise UserError(*(f"{path}: {line}" for line in defects))
    clinical = [column for column in table.columns if column not in (*REQUIRED, *OPTIONAL, *_SIZE)]
    row_mm, col_mm = spacing_mm(cells, len(table.rows))
    whole = pd.DataFrame(
        {
            "patient_id": cells["patient_id"],
            **({"fold": [int(cell) for cell in cells["fold"]]} if "fold" in cells else {}),
            "spacing_row": row_mm,
            "spacing_col": col_mm,
            **{name: _numbers(table, name) for name in _SIZE},
            **{column: typed(table.column(column)) for column in clinical},
        }
    )
    frame = whole.iloc[rows]
    frame.insert(0, "image_id", [cells["image_id"][row] for row in rows] if "image_id" in cells else list(names))
    places = sorted(range(len(rows)), key=rows.__getitem__)
    warnings = [
        *table.warnings,
        *near_columns(table.columns, (*REQUIRED, *OPTIONAL, *_SIZE), "clinical"),
        *alike("column", table.columns),
        *names_alike(frame, clinical),
        *spacing_signs(frame[["spacing_row", "spacing_col"]].max(axis=1).tolist()),
    ]
    return Described(
        frame.set_axis(range(len(rows))).iloc[places],
        clinical,
        len(table.rows) - len(rows),
        tuple(f"{path}: {line}" for line in collapsed(warnings)),
    )


def _numbers(table: Table, column: str) -> pd.Series:
    cells = table.column(column) if column in table.columns else [""] * len(table.rows)
    return pd.to_numeric(pd.Series(cells), errors="coerce").astype("float64")


def _rows_of(table: Table, naming: Sequence[str], names: Sequence[str], lines: Lines) -> tuple[list[int], list[str]]:
    """Return the place of each pair's row, and a line for each pair without one."""
    known = {column: _places_by_name(table, column) for column in naming}
    column = max(naming, key=lambda one: sum(_lookup(known[one], name) != [] for name in names))
    looks = {alike_key(key): key for key in known[column]}
    unclear = []
    owner: dict[int, str] = {}
    for name in names:
        found = _lookup(known[column], name)
        if len(found) != 1:
            which = " and ".join(str(table.numbers[row]) for row in found[:3])
            fault = f"rows {which} have it" if found else "no row has it"
            others = [looks[key] for key in map(alike_key, _tails(name)) if key in looks and not found]
            unclear.append(f"{shown(name)} is not described: {fault} as {column}{near_hint(name, others[:1])}")
            continue
        (row,) = found
        if row in owner:
            lines.add(table.numbers[row], f"describes {owner[row]} and {name}; each pair needs a row of its own")
        owner.setdefault(row, name)
    return list(owner), unclear


def _places_by_name(table: Table, column: str) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(table.column(column)):
        if cell not in MISSING:
            for name in [composed(cell)] if column == "image_id" else _tails(composed(without_suffix(cell))):
                places[name].append(row)
    return places


def _lookup(places: Mapping[str, list[int]], name: str) -> list[int]:
    return next((places[tail] for tail in _tails(name) if tail in places), [])


def _tails(name: str) -> Iterator[str]:
    """Yield the name, and its rest from each folder on: p1/a, a."""
    parts = name.split("/")
    return ("/".join(parts[first:]) for first in range(len(parts)))
