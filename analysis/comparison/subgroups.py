"""Scores by subgroup: stage, location, size, device or any other clinical column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
)
from eus_ray.analysis.inputs.study_images import clinical_columns
from eus_ray.analysis.labels import column_label
from eus_ray.analysis.measures.image_metrics import COUNTS
from eus_ray.analysis.statistics import Pair, Test, bootstrap, cliffs_delta, dunn, holm, kruskal_wallis
from eus_ray.analysis.statistics.bootstrap import FEWEST_PATIENTS

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


def divide(images: pd.DataFrame) -> tuple[tuple[Division, ...], tuple[str, ...]]:
    """Divide the images by each clinical column.

    Categories divide by level, measurements into thirds of the images. If no column is named `size…`, the lesion's
    area (from the counts) takes its place; images without lesion are a level of their own there. Columns with one
    level, or with a text of its own for each image, divide nothing.

    Args:
        images: One row per model and image with clinical columns. An image's first row counts; `Division.level` has the
            image order of `align`.

    Returns:
        At most `MAX_DIVISIONS` divisions, and a line for each column left out because it has too many levels or comes
        after these divisions.
    """
    rows = images.drop_duplicates("image_id").reset_index(drop=True)
    columns = clinical_columns(rows)
    columns.sort(key=lambda name: _FIRST_COLUMNS.index(name) if name in _FIRST_COLUMNS else len(_FIRST_COLUMNS))
    found: list[Division] = []
    left_out: list[str] = []
    for column in columns:
        values = known_values(rows[column])
        if is_category(values, rows["patient_id"]):
            texts = sorted(values.dropna().unique(), key=level_order)
            if len(texts) > MAX_LEVELS:
                if len(texts) < len(rows):
                    left_out.append(f"{column_label(column)} ({len(texts)} categories)")
                continue
            places = {text: place for place, text in enumerate(texts)}
            level = values.map(places).fillna(-1).to_numpy(np.int64)
            division = Division(column, column_label(column), tuple(map(level_text, texts)), level, True)
        else:
            division = thirds(column, column_label(column), values.to_numpy(np.float64, na_value=np.nan))
        if len(division.levels) > 1:
            found.append(division)
    if not any(division.column.lower().startswith("size") for division in found) and set(COUNTS) <= set(rows.columns):
        found += [area for area in [_area(rows)] if len(area.levels) > 1]
    left_out += [division.label for division in found[MAX_DIVISIONS:]]
    return tuple(found[:MAX_DIVISIONS]), tuple(left_out)


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
    names = (f"up to {first}", f"{first} to {second}", f"above {second}")
    used, level = np.unique(place[known], return_inverse=True)
    place[known] = level
    return Division(column, label, tuple(names[each] for each in used), place, False)


def _area(rows: pd.DataFrame) -> Division:
    pixels = rows[list(COUNTS)].to_numpy(np.float64)
    truth = rows[["tp", "fn"]].to_numpy(np.float64).sum(axis=1)
    percent = np.divide(100 * truth, pixels.sum(axis=1), out=np.zeros(len(rows)), where=truth > 0)
    division = thirds(AREA, "Lesion area, % of the image", np.where(truth > 0, percent, np.nan))
    if (truth > 0).all():
        return division
    return replace(division, levels=("no lesion", *division.levels), level=division.level + 1)


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
    """Mean over images of one metric of one model in one level of a division."""

    division: Division
    level: str
    model: str
    metric: str
    num_patients: int
    num_images: int
    mean: float
    low: float
    high: float
    """95 % interval: patients are resampled with all their images. NaN with fewer than `FEWEST_PATIENTS`."""

    @property
    def has_few_patients(self) -> bool:
        """Return whether there are too few patients for an interval."""
        return self.num_patients < FEWEST_PATIENTS


def stratum_means(
    aligned: Aligned,
    divisions: Sequence[Division],
    draws: int = bootstrap.DRAWS,
    seed: int = bootstrap.SEED,
) -> tuple[Stratum, ...]:
    """Compute the mean of each metric of each model in each level.

    Models on the same images share the bootstrap samples of patients.
    """
    rows: list[Stratum] = []
    for division in divisions:
        for place, level in enumerate(division.levels):
            here = division.level == place
            patients, together = aligned.patients[here], np.zeros(int(here.sum()), np.int64)
            values = aligned.bounded[here].reshape(len(together), -1)
            means = bootstrap.fold_means(values, together)[0]
            low, high = bootstrap.interval(bootstrap.bootstrap(values, patients, together, draws, seed))
            known = ~np.isnan(values)
            _, index = np.unique(patients, return_inverse=True)
            seen = np.zeros((index.max() + 1, values.shape[1]), np.bool_)
            np.logical_or.at(seen, index, known)
            for column, (model, metric) in enumerate((k, m) for k in aligned.models for m in aligned.metrics):
                num_patients = int(seen[:, column].sum())
                judged = num_patients >= FEWEST_PATIENTS
                rows.append(
                    Stratum(
                        division,
                        level,
                        model,
                        metric,
                        num_patients,
                        int(known[:, column].sum()),
                        float(means[column]),
                        float(low[column]) if judged else np.nan,
                        float(high[column]) if judged else np.nan,
                    )
                )
    return tuple(rows)
