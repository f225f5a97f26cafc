"""Folds of whole patients: assigned as evenly as possible, checked, and compared.

Balanced are, each as far as all before it allow: patients a fold; images a fold; then the strata of the columns named,
the more important first. `split_solver` says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.data.split_solver import Ints, assign
from eus_ray.errors import UserError, did_you_mean

LESION_SIZE = "lesion_size"
"""A column that every manifest has: terciles of the patients' mean share of lesion pixels."""
_MISSING = "(missing)"
_MAX_DISTINCT_NUMBERS = 6
"""Grades and stages have up to so many; a numeric column with more is cut in terciles."""


@dataclass(frozen=True)
class FoldPlan:
    """The fold of each image, and how near to the best possible folds they are."""

    fold: Ints
    """`(N,)`: the fold of each row of the frame, counted from 0."""
    gap: float
    """How far, as a share, the worst of the balanced quantities may be from the best possible; 0 is proven best."""
    given: bool
    """The folds are the manifest's own, and nothing was balanced; `gap` is then NaN."""


def assign_folds(frame: pd.DataFrame, count: int, seed: int, stratify: Sequence[str] = ()) -> FoldPlan:
    """Return a manifest's own folds if it has the column `fold`, else balanced ones.

    Args:
        frame: The manifest's frame.
        count: The number of folds.
        seed: The seed of the random draw.
        stratify: Columns whose strata are to be balanced, the more important first.

    Raises:
        UserError: If there are fewer than two folds, or more folds than patients; a column is unknown; fewer patients
            than folds have a value of a column, since some fold would be tested without it (missing values and terciles
            are exempt: they cannot be merged by hand); or given folds split a patient, are not 0 to count - 1, or
            leave a fold empty.
    """
    known = [*map(str, frame.columns), *([LESION_SIZE] if "lesion_share" in frame.columns else [])]
    lines = [
        f"folds.stratify: the manifest has no column {column}{did_you_mean(column, known)}"
        for column in stratify
        if column not in known
    ]
    if count < 2:
        lines.append(f"folds.count: {count} is too few; cross-validation needs 2 folds at least")
    if seed < 0:
        lines.append(f"folds.seed: {seed} is below 0")
    if "fold" in frame.columns:
        lines += _given_defects(frame, count)
    elif (num_patients := frame["patient_id"].nunique()) < count:
        lines.append(f"folds.count: {count} folds need as many patients, the manifest has {num_patients}")
    elif not lines:
        for column in stratify:
            strata, cut = _strata(frame, column)
            for value, num in strata.value_counts(sort=False).items():
                if num < count and value != _MISSING and not cut:
                    lines.append(
                        f"folds.stratify: {column} = {value} has {num} patient{'s' if num > 1 else ''}, fewer than the "
                        f"{count} folds; merge it with another value, take fewer folds, or leave {column} out"
                    )
    if lines:
        raise UserError(*lines)
    if "fold" not in frame.columns:
        return split_patients(frame, count, seed, stratify)
    return FoldPlan(frame["fold"].to_numpy(np.int64), float("nan"), True)


def split_patients(frame: pd.DataFrame, count: int, seed: int, stratify: Sequence[str] = ()) -> FoldPlan:
    """Return balanced folds of whole patients.

    A seed gives the same folds whatever the order of the rows. Strata of any size are spread as evenly as possible.
    `frame` needs `patient_id` and the columns named. A patient has one stratum of each column: the tercile of their
    mean if a numeric column has many values, else their most frequent value.
    """
    images = frame.groupby("patient_id", sort=True).size()
    codes = [_strata(frame, column)[0].loc[images.index].cat.codes for column in stratify]
    features = np.column_stack([images.to_numpy(np.int64), *codes]).astype(np.int64)
    fold, gap = assign(features, count, np.random.default_rng(seed))
    by_row = pd.Series(fold, index=images.index).reindex(frame["patient_id"]).to_numpy(np.int64)
    return FoldPlan(by_row, gap, False)


def validation_split(
    frame: pd.DataFrame, fold: npt.ArrayLike, parts: int, seed: int, stratify: Sequence[str] = ()
) -> npt.NDArray[np.bool_]:
    """Set aside for validation one part of each fold's training patients.

    Each fold's training patients are split into parts as evenly as the folds are. The part validates whose patients
    validate least elsewhere, so that together the folds judge as many patients as possible.

    Args:
        frame: The manifest's frame, N rows.
        fold: The outer assignment `(N,)`, K folds.
        parts: The number of parts.
        seed: The seed of the random draw.
        stratify: Columns whose strata are to be balanced.

    Returns:
        `(K, N)` bool: the rows that validate in each fold.

    Raises:
        UserError: If a fold has fewer training patients than `parts`.
    """
    fold = np.asarray(fold, dtype=np.int64)
    patient = pd.factorize(frame["patient_id"])[0]
    chosen = np.zeros((int(fold.max()) + 1, len(frame)), dtype=bool)
    times = np.zeros(patient.max() + 1, dtype=np.int64)
    for k in range(len(chosen)):
        rows = np.flatnonzero(fold != k)
        training = np.unique(patient[rows])
        if len(training) < parts:
            raise UserError(
                f"search.inner_folds is {parts}, and fold {k} has {len(training)} training patients; "
                "lower search.inner_folds or folds.count"
            )
        part = split_patients(frame.iloc[rows].reset_index(drop=True), parts, seed + 1 + k, stratify).fold
        members = [np.unique(patient[rows[part == number]]) for number in range(parts)]
        best = min(range(parts), key=lambda number: times[members[number]].mean())
        chosen[k, rows[part == best]] = True
        times[members[best]] += 1
    return chosen


def balance(frame: pd.DataFrame, fold: npt.ArrayLike, stratify: Sequence[str] = ()) -> pd.DataFrame:
    """Return how even any assignment is.

    Args:
        frame: The manifest's frame, N rows.
        fold: The assignment `(N,)`, K folds.
        stratify: The columns whose strata are counted.

    Returns:
        One row for patients, one for images, one for each stratum's patients. Columns are `column`, `stratum`,
        `0` … `K - 1` (the folds), `even_share` (total / K) and `off` (the largest distance of a fold from it).
    """
    fold = np.asarray(fold, dtype=np.int64)
    count = int(fold.max()) + 1
    patients = pd.Series(fold, index=frame["patient_id"]).groupby(level=0).first()
    rows: list[tuple[str, str, Ints]] = [
        ("patients", "", np.bincount(patients, minlength=count)),
        ("images", "", np.bincount(fold, minlength=count)),
    ]
    for column in stratify:
        strata = _strata(frame, column)[0]
        for value in strata.cat.categories:
            members = patients.reindex(strata.index[strata == value])
            rows.append((column, str(value), np.bincount(members, minlength=count)))
    columns = ["column", "stratum", *map(str, range(count))]
    table = pd.DataFrame([(column, stratum, *in_fold) for column, stratum, in_fold in rows], columns=columns)
    numbers = table[columns[2:]].to_numpy()
    table["even_share"] = numbers.sum(axis=1) / count
    table["off"] = np.abs(numbers - table["even_share"].to_numpy()[:, None]).max(axis=1)
    return table


# ---- strata -----------------------------------------------------------------------------------------


def _strata(frame: pd.DataFrame, column: str) -> tuple[pd.Series, bool]:
    """Return each patient's stratum (by patient_id), and whether it is a tercile.

    A numeric column with more than `_MAX_DISTINCT_NUMBERS` values is cut in terciles of the patients' means. Any other
    column is taken as it is; if it varies within a patient, their most frequent value counts, the least of equally
    frequent ones. Patients without a value are a stratum of their own.
    """
    if column == LESION_SIZE and LESION_SIZE not in frame.columns:
        values, numeric = frame["lesion_share"], True
    else:
        values = frame[column]
        numeric = pd.api.types.is_numeric_dtype(values) and values.nunique() > _MAX_DISTINCT_NUMBERS
    patients = frame["patient_id"]
    if not numeric:
        known = pd.DataFrame({"patient": patients, "value": values}).dropna()
        sizes = known.groupby(["patient", "value"], observed=True).size().reset_index(name="images")
        sizes = sizes.sort_values(["patient", "images", "value"], ascending=[True, False, True])
        first = sizes.groupby("patient")["value"].first()
        order = [str(value) for value in sorted(first.unique())]
        labels = first.map(str)
    else:
        means = values.astype(float).groupby(patients.to_numpy()).mean().dropna()
        cuts = np.quantile(means, [1 / 3, 2 / 3]) if len(means) else np.zeros(2)
        tercile = np.searchsorted(cuts, means, side="left")
        ends = {third: (means[tercile == third].min(), means[tercile == third].max()) for third in np.unique(tercile)}
        whole = bool((means % 1 == 0).all())
        for digits in range(4, 18):  # dates written as numbers differ late
            form = ".0f" if whole else f".{digits}g"
            names = {third: f"{low:{form}} to {high:{form}}" for third, (low, high) in ends.items()}
            order = list(names.values())
            if len(set(order)) == len(order):
                break
        labels = pd.Series([names[third] for third in tercile], index=means.index, dtype=object)
    everyone = pd.Index(sorted(patients.unique()))
    if len(labels) < len(everyone):
        order = [*order, _MISSING]
    labels = labels.astype(object).reindex(everyone, fill_value=_MISSING)
    return pd.Series(pd.Categorical(labels, categories=list(dict.fromkeys(order))), index=everyone), numeric


def _given_defects(frame: pd.DataFrame, count: int) -> list[str]:
    fold = pd.to_numeric(frame["fold"], errors="coerce")
    if fold.isna().any() or (fold % 1 != 0).any():
        return ["fold: the manifest's folds must be whole numbers"]
    lines = [
        f"fold: patient {patient} is in folds {', '.join(f'{f:g}' for f in sorted(folds))}; give one"
        for patient, folds in fold.groupby(frame["patient_id"]).unique().items()
        if len(folds) > 1
    ]
    there = {int(f) for f in fold}
    beyond = sorted(there - set(range(count)))
    empty = sorted(set(range(min(count, len(frame) + 1))) - there)  # more folds than images leave one empty anyway
    if beyond:
        lines.append(
            f"fold: the manifest has folds {', '.join(map(str, beyond))}, but folds.count is {count} (folds 0 to "
            f"{count - 1}); set folds.count, or drop the column"
        )
    if empty:
        lines.append(f"fold: no patient is in fold {', '.join(map(str, empty))} of 0 to {count - 1}")
    return lines
