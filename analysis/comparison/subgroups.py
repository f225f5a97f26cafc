"""Scores by subgroup: stage, location, size, device or any other clinical column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.comparison.score_matrix import Aligned, Floats
from eus_ray.analysis.comparison.subgroup_columns import (
    MAX_LEVELS,
    MOST_PRINTED,
    is_category,
    known_values,
    level_order,
    level_text,
    overflow_scale,
    why_left_out,
)
from eus_ray.analysis.inputs.study_images import clinical_columns, of_models
from eus_ray.analysis.labels import column_label
from eus_ray.analysis.measures.image_metrics import COUNTS
from eus_ray.analysis.statistics import Pair, Test, bootstrap, cliffs_delta, dunn, holm, kruskal_wallis
from eus_ray.analysis.statistics.bootstrap import FEWEST_PATIENTS
from eus_ray.errors import UserError, did_you_mean

MAX_DIVISIONS = 12
MAX_PAIRED_LEVELS = 8
"""8 levels have 28 pairs; with more, Holm's adjustment would leave nothing to find."""
AREA = "lesion_area"
_FIRST_COLUMNS = ("t_stage", "location", "device")
"""The paper's columns, and the one that shows whether a model generalises."""

Level = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Division:
    """The images divided by one column."""

    column: str
    label: str
    """The column's name in print."""
    levels: tuple[str, ...]
    """Names of the levels in their order, at least two."""
    level: Level
    """Index of each image's level `(N,)`; -1 if it is not known."""
    is_clinical: bool
    """Whether the column is a clinical category; otherwise the levels are thirds of a measurement."""


def divide(
    images: pd.DataFrame, clinical: Literal["auto"] | Sequence[str] = "auto", target: str = "lesion"
) -> tuple[tuple[Division, ...], tuple[str, ...]]:
    """Divide the images by clinical columns, and by the area of the lesion.

    Categories divide by level, measurements into thirds of the images. The area (from the counts) divides if no column
    is named `size…`; images without lesion are a level of their own there.

    Args:
        images: One row per model and image with clinical columns. A column that differs between models divides
            nothing; `Division.level` has the image order of `align`.
        clinical: The columns that divide, in this order; `auto`: measurements, and categories with 2 to
            `MAX_TESTED_LEVELS` levels that are a patient's own (`why_left_out`).
        target: What the masks show, in print.

    Returns:
        At most `MAX_DIVISIONS` divisions, and each column left out, with the reason in brackets.

    Raises:
        UserError: If `images` lacks a column of `clinical`, or it differs between models.
    """
    differing = of_models(images)
    rows = images.drop_duplicates("image_id").reset_index(drop=True)
    columns = clinical_columns(rows)
    if clinical == "auto":
        columns.sort(key=lambda name: _FIRST_COLUMNS.index(name) if name in _FIRST_COLUMNS else len(_FIRST_COLUMNS))
    else:
        columns = _named(clinical, columns, differing)
    found: list[Division] = []
    left_out: list[str] = []
    for column in columns:
        values = known_values(rows[column])
        label = column_label(column)
        reason = why_left_out(values, rows["patient_id"]) if clinical == "auto" else ""
        reason = "differs between models" if column in differing else reason
        division = None if reason else _division(values, label, rows["patient_id"])
        if division is not None and len(division.levels) > MAX_LEVELS:
            reason = f"{len(division.levels)} levels"
        elif division is not None and len(division.levels) < 2:
            reason = "one value only" if division.levels else "no values"
        if reason:
            left_out.append(f"{label} ({reason})")
        elif division is not None:
            found.append(division)
    if not any(division.column.lower().startswith("size") for division in found) and set(COUNTS) <= set(rows.columns):
        found += [area for area in [_area(rows, target)] if len(area.levels) > 1]
    left_out += [f"{division.label} (after {MAX_DIVISIONS} others)" for division in found[MAX_DIVISIONS:]]
    return tuple(found[:MAX_DIVISIONS]), tuple(left_out)


def _named(clinical: Sequence[str], columns: Sequence[str], differing: Sequence[str]) -> list[str]:
    lines = [
        f"analysis.clinical: there is no clinical column {name}"
        + did_you_mean(name, columns, otherwise="" if columns else "there is none")
        for name in clinical
        if name not in columns
    ]
    lines += [
        f"analysis.clinical: {name} differs between models, so it is no patient's own; leave it out"
        for name in clinical
        if name in differing
    ]
    if lines:
        raise UserError(*lines)
    return list(dict.fromkeys(clinical))


def _division(values: pd.Series, label: str, patients: pd.Series) -> Division:
    column = str(values.name)
    if not is_category(values, patients):
        return thirds(column, label, values.to_numpy(np.float64, na_value=np.nan))
    texts = sorted(values.dropna().unique(), key=level_order)
    places = {text: place for place, text in enumerate(texts)}
    level = values.map(places).fillna(-1).to_numpy(np.int64)
    return Division(column, label, tuple(map(level_text, texts)), level, True)


def thirds(column: str, label: str, values: Floats) -> Division:
    """Divide a measurement `(N,)` at its 1/3 and 2/3 quantiles (linear).

    NaN and infinite values have no level. A third that ties leave empty is no level, so a constant has one level.
    """
    known = np.isfinite(values)
    if not known.any():
        return Division(column, label, (), np.full(len(values), -1), False)
    scale = overflow_scale(values)
    cuts = np.quantile(values[known] / scale, [1 / 3, 2 / 3])
    is_wide = cuts[1] - cuts[0] >= 1 / scale
    low, high = cuts * scale
    place = np.where(known, (values > low).astype(np.int64) + (values > high), -1)
    digits = next((each for each in range(3, 17) if f"{low:.{each}g}" != f"{high:.{each}g}"), 17)
    first, second = (
        f"{cut:.0f}" if 1000 <= abs(cut) < MOST_PRINTED and is_wide else f"{cut:.{digits}g}" for cut in (low, high)
    )
    names = (f"up to {first}", f"above {first} to {second}", f"above {second}")
    used, level = np.unique(place[known], return_inverse=True)
    place[known] = level
    return Division(column, label, tuple(names[each] for each in used), place, False)


def _area(rows: pd.DataFrame, target: str) -> Division:
    pixels = rows[list(COUNTS)].to_numpy(np.float64)
    truth = rows[["tp", "fn"]].to_numpy(np.float64).sum(axis=1)
    percent = np.divide(100 * truth, pixels.sum(axis=1), out=np.zeros(len(rows)), where=truth > 0)
    division = thirds(
        AREA, f"{target[:1].upper()}{target[1:]} area, % of the image", np.where(truth > 0, percent, np.nan)
    )
    if (truth > 0).all():
        return division
    return replace(division, levels=(f"no {target}", *division.levels), level=division.level + 1)


# ---- tests --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LevelPair:
    """Two levels compared after the test of all levels."""

    first: str
    second: str
    pair: Pair
    n: int
    """Number of values in both."""
    delta: float
    """Cliff's delta, first over second."""
    has_few_patients: bool
    """Whether one of them has fewer than `FEWEST_PATIENTS` patients."""


@dataclass(frozen=True)
class LevelTest:
    """One metric of one model by one clinical category."""

    division: Division
    model: str
    metric: str
    unit: str
    """`images` (as in the paper, though not independent) or `patients` (one mean each)."""
    levels: tuple[str, ...]
    """The levels that have values."""
    test: Test
    p_adjusted: float
    """Holm over the clinical categories of this model, metric and unit."""
    pairs: tuple[LevelPair, ...]


def level_tests(aligned: Aligned, divisions: Sequence[Division]) -> tuple[LevelTest, ...]:
    """Test each metric by clinical category: Kruskal-Wallis, then Dunn's pairs.

    Each test is done over images and over patients. A patient whose images lie in several levels is left out of the
    test over patients. A category with values in fewer than two levels has no test.
    """
    tests = [test for division in divisions if division.is_clinical for test in _level_tests(aligned, division)]
    families: dict[tuple[str, str, str], list[int]] = {}
    for place, each in enumerate(tests):
        families.setdefault((each.model, each.metric, each.unit), []).append(place)
    for places in families.values():
        adjusted = holm([tests[place].test.p_value for place in places])
        for place, p_adjusted in zip(places, adjusted, strict=True):
            tests[place] = replace(tests[place], p_adjusted=float(p_adjusted))
    return tuple(tests)


def _level_tests(aligned: Aligned, division: Division) -> Iterator[LevelTest]:
    of_patient, means = _by_patient(aligned, division)
    for unit, level, values in (("images", division.level, aligned.values), ("patients", of_patient, means)):
        for k, model in enumerate(aligned.models):
            for m, metric in enumerate(aligned.metrics):
                mine = values[:, k, m]
                groups = {name: mine[(level == place) & ~np.isnan(mine)] for place, name in enumerate(division.levels)}
                groups = {name: group for name, group in groups.items() if len(group)}
                if len(groups) < 2:
                    continue
                test = kruskal_wallis(list(groups.values()))
                pairs = (
                    _pairs(groups, _few_patients(aligned, division, k, m)) if len(groups) <= MAX_PAIRED_LEVELS else ()
                )
                yield LevelTest(division, model, metric, unit, tuple(groups), test, float("nan"), pairs)


def _by_patient(aligned: Aligned, division: Division) -> tuple[Level, Floats]:
    """Return each patient's level `(P,)` and means `(P, K, M)`.

    The level is -1 for none or several.
    """
    names, index = np.unique(aligned.patients, return_inverse=True)
    known = division.level >= 0
    low, high = np.full(len(names), len(division.levels)), np.full(len(names), -1)
    np.minimum.at(low, index[known], division.level[known])
    np.maximum.at(high, index[known], division.level[known])
    values = np.where(known[:, None, None], aligned.bounded, np.nan)
    return np.where(low == high, low, -1), aligned.patient_means(values)


def _few_patients(aligned: Aligned, division: Division, k: int, m: int) -> set[str]:
    known = ~np.isnan(aligned.values[:, k, m])
    return {
        name
        for place, name in enumerate(division.levels)
        if len(np.unique(aligned.patients[known & (division.level == place)])) < FEWEST_PATIENTS
    }


def _pairs(groups: dict[str, Floats], few: set[str]) -> tuple[LevelPair, ...]:
    names, values = list(groups), list(groups.values())
    return tuple(
        LevelPair(
            names[pair.i],
            names[pair.j],
            pair,
            len(values[pair.i]) + len(values[pair.j]),
            cliffs_delta(values[pair.i], values[pair.j]),
            bool(few & {names[pair.i], names[pair.j]}),
        )
        for pair in dunn(values)
    )


# ---- means --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stratum:
    """Average of one metric of one model in one level of a division."""

    division: Division
    level: str
    model: str
    metric: str
    num_patients: int
    num_images: int
    mean: float
    low: float
    high: float
    """95 % interval: the level's patients are resampled with all their images. NaN with fewer than
    `FEWEST_PATIENTS`."""

    @property
    def has_few_patients(self) -> bool:
        """Return whether there are too few patients for an interval."""
        return self.num_patients < FEWEST_PATIENTS


def stratum_means(
    aligned: Aligned,
    divisions: Sequence[Division],
    average: bootstrap.Average = "patients",
    draws: int = bootstrap.DRAWS,
    seed: int = bootstrap.SEED,
) -> tuple[Stratum, ...]:
    """Compute the average of each metric of each model in each level: over folds, of the level's patients or images.

    Patients are drawn from the whole level, because a fold may have few of its patients. Models on the same images
    share the draws.
    """
    rows: list[Stratum] = []
    for division in divisions:
        for place, level in enumerate(division.levels):
            here = division.level == place
            values = aligned.bounded[here].reshape(int(here.sum()), -1)
            names, index = np.unique(aligned.patients[here], return_inverse=True)
            folds = np.zeros(len(names), np.int64)
            folds[index] = aligned.folds[here]
            sums, numbers = bootstrap.sums(values, index)
            if average == "patients":
                sums, numbers = np.nan_to_num(bootstrap.divide(sums, numbers)), np.sign(numbers)
            means = _averages(sums, numbers, folds, np.ones((1, len(names))))[0]
            drawn = _averages(sums, numbers, folds, bootstrap.draw_patients(len(names), 0, draws, seed))
            low, high = bootstrap.interval(drawn)
            for column, (model, metric) in enumerate((k, m) for k in aligned.models for m in aligned.metrics):
                num_patients = int((numbers[:, column] > 0).sum())
                judged = num_patients >= FEWEST_PATIENTS
                rows.append(
                    Stratum(
                        division,
                        level,
                        model,
                        metric,
                        num_patients,
                        int((~np.isnan(values[:, column])).sum()),
                        float(means[column]),
                        float(low[column]) if judged else np.nan,
                        float(high[column]) if judged else np.nan,
                    )
                )
    return tuple(rows)


def _averages(sums: Floats, numbers: Floats, folds: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return means over folds `(B, M)` of patients' sums and numbers `(P, M)` with weights `(B, P)`.

    A fold without weight is left out.
    """
    by_fold = [
        bootstrap.divide(weights[:, here] @ sums[here], weights[:, here] @ numbers[here])
        for here in (folds == fold for fold in np.unique(folds))
    ]
    return bootstrap.mean_of_fold_means(np.stack(by_fold, axis=1))
