"""Per-image scores from any tool (CSV, Parquet or a frame), as the columns of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from eus_ray.analysis.inputs.study_images import IDENTITY, clinical_columns, of_models
from eus_ray.analysis.labels import UNLABELLED, ReportKind
from eus_ray.analysis.measures.calibration import CALIBRATION
from eus_ray.analysis.measures.distances import diagonal
from eus_ray.analysis.measures.image_metrics import COUNTS, DISTANCES, FINDINGS, METRICS, OVERLAPS
from eus_ray.data.io.tables import Table, names_alike, near_columns, parse_table
from eus_ray.data.names import alike, near, shown
from eus_ray.errors import UserError, collapsed
from eus_ray.store import Store

_NAMES = ("model", "kind", "image_id", "patient_id")
"""Text columns: `007` stays `007`, and a patient may be called NA."""
_SCORES = (*OVERLAPS, *DISTANCES, "auc", "nsd", *CALIBRATION)
_OFTEN_UNDEFINED = ("auc", *CALIBRATION)
"""NaN for an image of one class, without a box, or without probabilities."""
_SIZES = ("height", "width", "spacing_row", "spacing_col", "diagonal")
_GRID = ("unit", "grid")
"""How distances were measured, as `evaluate` writes it."""
_GRID_FORM = r"[1-9]\d* x [1-9]\d*"
_KNOWN = (*_NAMES, "fold", *_SCORES, *COUNTS, *FINDINGS, *_SIZES, *_GRID)


def read_score_table(store: Store, name: str) -> pd.DataFrame:
    """Read a table as the columns of `images.parquet` that it has.

    These are identity, clinical columns, metrics, `diagonal`, `unit`, `grid`. `fold` is 0 and `kind` is `fixed` by
    default. `diagonal` comes from the column of that name or from `height` and `width` (and `spacing_row`,
    `spacing_col`).

    Args:
        store: The folder of the table.
        name: A table with `model`, `image_id`, `patient_id` and one metric at least.

    Returns:
        The columns; `attrs["warnings"]` is a tuple of lines on what may have been meant otherwise.

    Raises:
        UserError: With a line for each defect: missing columns, unnamed models, images or patients, a model's image
            given twice, a patient in two folds, distances in two units, an image on two grids, scores that are NaN
            (except an AUC, which one class leaves undefined) or out of range, infinite distances without a size of the
            image.
    """
    where = store.path(name)
    try:
        table = parse_table(store.read_bytes(name), where)
    except FileNotFoundError:
        raise UserError(f"{where}: no such file; give a study folder or a table of per-image scores") from None
    if table.defects:
        raise UserError(*(f"{where}: {line}" for line in table.defects))
    frame = checked_scores(table.frame(texts=(*_NAMES, *_GRID)), where)
    frame.attrs["warnings"] = tuple(f"{where}: {line}" for line in collapsed(_warnings(table, frame)))
    return frame


def checked_scores(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Check the scores of a frame as `read_score_table` does those of a file, and return the same columns.

    Args:
        frame: The index numbers rows from 0, as a spreadsheet's below its header.
        where: What the messages call it.
    """
    metrics = [column for column in _SCORES if column in frame]
    lines = [
        f"{where}: has no column {column}{_rename(frame, (column,))}"
        for column in ("model", "image_id", "patient_id")
        if column not in frame
    ]
    if not metrics:
        cure = _rename(frame, _SCORES) or f"; name one column at least of {', '.join(_SCORES)}"
        lines.append(f"{where}: has no metric{cure}")
    if not len(frame):
        lines.append(f"{where}: has no rows")
    if lines:
        raise UserError(*lines)
    if "grid" in frame:
        frame["grid"] = frame["grid"].str.replace(r"^\s*(\d+)\s*[xX\u00d7]\s*(\d+)\s*$", r"\1 x \2", regex=True)
    lines = [*_check_names(where, frame), *_check_folds(where, frame), *_check_grids(where, frame)]
    for column in [name for name in (*METRICS, *_SIZES) if name in frame]:
        values, is_text = _as_numbers(frame[column])
        lines += _in_rows(is_text, f"{where}: {column} holds text", "; give numbers with a decimal point")
        frame[column] = values if column in (*COUNTS, *FINDINGS) else values.astype(np.float64)
    if lines:
        raise UserError(*lines)
    frame = frame.assign(
        fold=pd.to_numeric(frame["fold"]).astype(np.int64) if "fold" in frame else np.int64(0),
        kind=frame.get("kind", ReportKind.FIXED.value),
    )
    frame["diagonal"] = _diagonals(frame)
    wrong = ~((frame["diagonal"] > 0) & np.isfinite(frame["diagonal"]) | frame["diagonal"].isna())
    lines = [
        *_in_rows(wrong, f"{where}: diagonal must be a length above 0, but is not"),
        *(line for column in metrics for line in _check_scores(where, frame, column)),
        *(
            line
            for column in (*COUNTS, *FINDINGS)
            if column in frame
            for line in _in_rows(frame[column].isna(), f"{where}: {column} is missing")
        ),
    ]
    if lines:
        raise UserError(*lines)
    there = [name for name in (*METRICS, "diagonal", *_GRID) if name in frame]
    return frame[[*IDENTITY, *clinical_columns(frame), *there]].reset_index(drop=True)


def _rename(frame: pd.DataFrame, lacking: Sequence[str]) -> str:
    """Return the end of a message about columns that a frame lacks: the column that looks like one of them."""
    found = (near(name, map(str, frame.columns)) for name in lacking)
    return next((f"; rename {shown(name)}?" for name in found if name), "")


def _warnings(table: Table, frame: pd.DataFrame) -> list[str]:
    """Return what may have been meant otherwise, in the words of a manifest's warnings."""
    return [
        *table.warnings,
        *_differing(of_models(frame)),
        *near_columns(table.columns, _KNOWN, "clinical"),
        *alike("column", table.columns),
        *names_alike(frame, clinical_columns(frame)),
    ]


def _differing(columns: Sequence[str]) -> list[str]:
    """Return a line on columns that differ between models; none if there are none."""
    if not columns:
        return []
    are = "differs between models, so it is" if len(columns) == 1 else "differ between models, so they are"
    return [f"{', '.join(map(shown, columns))} {are} no patient's own: left out of patients and subgroups"]


def _as_numbers(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return a column as numbers or Booleans, and which of its cells are neither.

    `inf` is a number, and an empty cell is NaN.
    """
    if pd.api.types.is_numeric_dtype(values):  # Booleans too
        return values, pd.Series(False, values.index)
    texts = [str(value).casefold() for value in values.astype(object).where(values.notna(), "nan")]
    if set(texts) <= {"true", "false"}:
        return pd.Series([text == "true" for text in texts], values.index), pd.Series(False, values.index)
    numbers = pd.Series([_number(text) for text in texts], values.index, dtype="float64")
    return numbers, numbers.isna() & np.array([text != "nan" for text in texts])


def _number(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)  # Python allows 1_000
    except ValueError:
        return math.nan


def _check_names(where: str, frame: pd.DataFrame) -> list[str]:
    names = [column for column in _NAMES if column in frame]
    lines = [line for name in names for line in _in_rows(frame[name] == "", f"{where}: {name} is empty")]
    unknown = sorted(set(frame.get("kind", ())) - {"", *ReportKind})
    lines += [
        f"{where}: kind is {kind!r}; write {', '.join(ReportKind)}, or tell models apart by their name"
        for kind in unknown[:5]
    ]
    if not unknown:
        lines += _check_baseline(where, frame["model"], frame.get("kind", pd.Series("", frame.index)))
    printed: dict[str, list[str]] = {}
    for model in sorted(set(frame["model"])):
        printed.setdefault(UNLABELLED[model], []).append(model)
    lines += [
        f"{where}: models {' and '.join(models)} are both printed as {label}; rename one"
        for label, models in printed.items()
        if len(models) > 1
    ]
    named = _named(frame)
    twice = named[named.duplicated([name for name in names if name != "patient_id"])]
    lines += [
        f"{where}: row {index + 2}: image {row.image_id} of model {row.model} has a row already; keep one"
        for index, row in zip(twice.index[:5], twice.itertuples(), strict=False)
    ]
    owners = named.groupby("image_id")["patient_id"].nunique()
    lines += [f"{where}: image {image} belongs to two patients" for image in owners.index[owners > 1][:5]]
    return lines


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a model, an image and a patient: what is wrong with the others follows from that."""
    return frame[(frame[["model", "image_id", "patient_id"]] != "").all(axis=1)]


def _check_baseline(where: str, models: pd.Series, kinds: pd.Series) -> list[str]:
    """Return a line if a model has the baseline's name and is none, or the baseline stands alone."""
    is_baseline = kinds == ReportKind.BASELINE
    if ((models == ReportKind.BASELINE) != is_baseline).any():
        return [
            f"{where}: model baseline is a mask that looks at no image, and its kind is baseline, too; "
            "rename a model that is a network"
        ]
    return [f"{where}: has no model but the baseline; add one to compare"] if is_baseline.all() else []


def _check_folds(where: str, frame: pd.DataFrame) -> list[str]:
    if "fold" not in frame:
        return []
    folds = pd.to_numeric(frame["fold"], errors="coerce")
    wrong = ~(folds >= 0) | (folds % 1 != 0)
    if wrong.any():
        return _in_rows(wrong, f"{where}: fold must count from 0 in whole numbers, but does not")
    spread = _named(frame).groupby("patient_id")["fold"].nunique()
    return [
        f"{where}: patient {patient} is in {spread[patient]} folds; a patient's images must share one"
        for patient in spread.index[spread > 1][:5]
    ]


def _check_grids(where: str, frame: pd.DataFrame) -> list[str]:
    """Return the defects of `unit` and `grid`: distances of several units or grids are not to be compared."""
    lines = []
    if "unit" in frame:
        rename = "; rename the column if it is something else, for example to clinical_unit"
        lines += _in_rows(~frame["unit"].isin(("px", "mm")), f"{where}: unit must be px or mm, but is not", rename)
        if not lines and frame["unit"].nunique() > 1:
            lines.append(
                f"{where}: distances are in px in some rows and in mm in others; measure all with the same spacing, or "
                "analyze each unit as a table of its own"
            )
    if "grid" in frame:
        is_missing = frame["grid"].fillna("") == ""
        is_odd = ~is_missing & ~frame["grid"].astype(str).str.fullmatch(_GRID_FORM)
        for wrong, what in ((is_missing, "is missing"), (is_odd, "is not rows x columns")):
            lines += _in_rows(wrong, f"{where}: grid {what}", "; give the mask's rows x columns, as 128 x 96")
        named = _named(frame)
        several = named[named.groupby("image_id")["grid"].transform("nunique") > 1]
        if len(several) and not (is_missing | is_odd).any():
            image = several["image_id"].iloc[0]
            grids = several.loc[several["image_id"] == image, ["model", "grid"]].drop_duplicates("grid").head(2)
            measured = " and ".join(f"{row.grid} ({row.model})" for row in grids.itertuples())
            lines.append(
                f"{where}: image {image} was measured on {measured}; such numbers are not to be compared: bring the "
                "masks of all models to one size and measure them again, or analyze each model as a table of its own"
            )
    return lines


def _diagonals(frame: pd.DataFrame) -> pd.Series:
    if "diagonal" in frame:
        return frame["diagonal"]
    if not {"height", "width"} <= set(frame.columns):
        return pd.Series(np.nan, frame.index)
    rows, columns = (
        frame.get(name, pd.Series(1.0, frame.index)).fillna(1.0) for name in ("spacing_row", "spacing_col")
    )
    sizes = zip(frame["height"], frame["width"], rows, columns, strict=True)
    return pd.Series([diagonal((high, wide), (row, column)) for high, wide, row, column in sizes], frame.index)


def _check_scores(where: str, frame: pd.DataFrame, column: str) -> list[str]:
    values = frame[column]
    unknown = values.isna() & (column not in _OFTEN_UNDEFINED)
    if column in DISTANCES:
        size = (
            ", and a mean needs the image's size: add columns height and width (and spacing_row, spacing_col if "
            "distances are in mm)"
        )
        return [
            *_in_rows(unknown, f"{where}: {column} is missing or NaN", "; an infinite distance is written inf"),
            *_in_rows(values < 0, f"{where}: {column} is negative"),
            *_in_rows(np.isinf(values) & frame["diagonal"].isna(), f"{where}: {column} is infinite", size),
        ]
    percent = "; divide percentages by 100" if values.max() <= 100 and values.min() >= 0 else ""
    return [
        *_in_rows(unknown, f"{where}: {column} is missing or NaN", "; leave out no image"),
        *_in_rows((values < 0) | (values > 1), f"{where}: {column} must lie in 0 to 1, but does not", percent),
    ]


def _in_rows(wrong: pd.Series, fault: str, cure: str = "") -> list[str]:
    """Return a line that names the rows of a fault; none if no row is wrong.

    Rows are counted as a spreadsheet does, the header being row 1.
    """
    rows = [str(row + 2) for row in wrong.index[wrong]]
    if not rows:
        return []
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return [f"{fault} in row{'s' if len(rows) > 1 else ''} {', '.join(rows[:5])}{more}{cure}"]
