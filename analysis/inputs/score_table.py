"""Per-image scores from any tool (CSV, Parquet or a frame), as the columns of a study.

pandas reads them, not `data.io.tables`: booleans and dates stay what they are, and an index or a trailing comma that
other programs add is no defect.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from eus_ray.analysis.inputs.study_images import IDENTITY, clinical_columns
from eus_ray.analysis.labels import ReportKind, model_label
from eus_ray.analysis.measures.distances import diagonal
from eus_ray.analysis.measures.image_metrics import COUNTS, DISTANCES, FINDINGS, METRICS, OVERLAPS
from eus_ray.data.io.tables import MISSING
from eus_ray.errors import UserError
from eus_ray.store import Store

SUFFIXES = (".csv", ".parquet")
_NAMES = ("model", "kind", "image_id", "patient_id")
"""Text columns: `007` stays `007`, and a patient may be called NA."""
_SCORES = (*OVERLAPS, *DISTANCES, "auc")


def read_score_table(store: Store, name: str) -> pd.DataFrame:
    """Read a table as the columns of `images.parquet` that it has.

    These are identity, clinical columns, metrics, `diagonal`. `fold` is 0 and `kind` is `fixed` by default. `diagonal`
    comes from the column of that name or from `height` and `width` (and `spacing_row`, `spacing_col`).

    Args:
        store: The folder of the table.
        name: A table with `model`, `image_id`, `patient_id` and one metric at least.

    Raises:
        UserError: With a line for each defect: missing columns, unnamed models, images or patients, a model's image
            given twice, a patient in two folds, scores that are NaN (except an AUC, which one class leaves undefined)
            or out of range, infinite distances without a size of the image.
    """
    return checked_scores(_read(store, name), store.path(name))


def checked_scores(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Check the scores of a frame as `read_score_table` does those of a file, and return the same columns.

    Args:
        frame: Rows are numbered from 0, as a spreadsheet's below its header.
        where: What the messages call it.
    """
    metrics = [column for column in _SCORES if column in frame]
    lines = [
        f"{where}: has no column {column}" for column in ("model", "image_id", "patient_id") if column not in frame
    ]
    if not metrics:
        lines.append(f"{where}: has no metric; name one column at least of {', '.join(_SCORES)}")
    if not len(frame):
        lines.append(f"{where}: has no rows")
    if lines:
        raise UserError(*lines)
    lines = [*_check_names(where, frame), *_check_folds(where, frame)]
    sizes = ("height", "width", "spacing_row", "spacing_col", "diagonal")
    for column in [name for name in (*METRICS, *sizes) if name in frame]:
        try:
            values = pd.to_numeric(frame[column])
            frame[column] = values if column in (*COUNTS, *FINDINGS) else values.astype(np.float64)
        except (ValueError, TypeError):
            lines.append(f"{where}: {column} holds text; give numbers with a decimal point")
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
    return frame[[*IDENTITY, *clinical_columns(frame), *(name for name in METRICS if name in frame), "diagonal"]]


def _read(store: Store, name: str) -> pd.DataFrame:
    where = store.path(name)
    try:
        data = store.read_bytes(name)
        if name.lower().endswith(".csv"):
            with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
                # each column whole, not in pieces that may be told apart as numbers and texts
                frame = pd.read_csv(
                    io.BytesIO(data),
                    index_col=False,
                    low_memory=False,
                    keep_default_na=False,
                    na_values=sorted(MISSING),
                )
            # the index that pandas writes has no name
            frame = frame[[name for name in frame.columns if not str(name).startswith("Unnamed: ")]]
            names = frame.columns.intersection(list(_NAMES))
            # Read as text, nothing missing: pandas would make numbers and NaN of names.
            text = pd.read_csv(
                io.BytesIO(data), usecols=list(names), dtype="str", keep_default_na=False, index_col=False
            )
            return frame.assign(**{name: text[name].str.strip() for name in names})
        frame = _plain(pq.read_table(pa.BufferReader(data))).to_pandas(ignore_metadata=True)
    except FileNotFoundError:
        raise UserError(f"{where}: no such file; give a study folder or a table of per-image scores") from None
    except pd.errors.ParserWarning:
        raise UserError(f"{where}: rows have more cells than the header has names; name every column") from None
    except (ValueError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{where}: cannot be read as {name.rsplit('.', 1)[-1]} ({reason})") from None
    for column in frame.columns.intersection(list(_NAMES)):
        frame[column] = frame[column].map(lambda value: "" if pd.isna(value) else str(value).strip())
    return frame


def _plain(table: pa.Table) -> pa.Table:
    """Return the table without what pandas adds to it.

    Categories become their values, and an index without a name goes.
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table[place].cast(field.type.value_type))
    return table.drop_columns([name for name in table.column_names if name.startswith("__index_level_")])


def _check_names(where: str, frame: pd.DataFrame) -> list[str]:
    names = [column for column in _NAMES if column in frame]
    lines = [line for name in names for line in _in_rows(frame[name] == "", f"{where}: {name} is empty")]
    unknown = sorted(set(frame.get("kind", ())) - {"", *ReportKind})
    lines += [
        f"{where}: kind is {kind!r}; write {', '.join(ReportKind)}, or tell models apart by their name"
        for kind in unknown[:5]
    ]
    printed: dict[str, list[str]] = {}
    for model in sorted(set(frame["model"])):
        printed.setdefault(model_label(model), []).append(model)
    lines += [
        f"{where}: models {' and '.join(models)} are both printed as {label}; rename one"
        for label, models in printed.items()
        if len(models) > 1
    ]
    twice = frame[frame.duplicated([name for name in names if name != "patient_id"])]
    lines += [
        f"{where}: row {index + 2}: image {row.image_id} of model {row.model} has a row already; keep one"
        for index, row in zip(twice.index[:5], twice.itertuples(), strict=False)
    ]
    owners = frame.groupby("image_id")["patient_id"].nunique()
    lines += [f"{where}: image {image} belongs to two patients" for image in owners.index[owners > 1][:5]]
    return lines


def _check_folds(where: str, frame: pd.DataFrame) -> list[str]:
    if "fold" not in frame:
        return []
    folds = pd.to_numeric(frame["fold"], errors="coerce")
    wrong = ~(folds >= 0) | (folds % 1 != 0)
    if wrong.any():
        return _in_rows(wrong, f"{where}: fold must count from 0 in whole numbers, but does not")
    spread = frame.groupby("patient_id")["fold"].nunique()
    return [
        f"{where}: patient {patient} is in {spread[patient]} folds; a patient's images must share one"
        for patient in spread.index[spread > 1][:5]
    ]


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
    unknown = values.isna() & (column != "auc")
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
