"""Stored probability maps, measured in one pass: metrics, outline and ROC curve of each, a few in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from eus_ray import store as layout
from eus_ray.analysis.inputs.cases import Case, read_cases
from eus_ray.analysis.inputs.process_pool import in_processes
from eus_ray.analysis.inputs.settings import measuring_settings
from eus_ray.analysis.measures.calibration import CALIBRATION, calibration
from eus_ray.analysis.measures.distances import diagonal
from eus_ray.analysis.measures.image_metrics import image_metrics
from eus_ray.analysis.measures.outlines import Outline, outline
from eus_ray.analysis.measures.roc import FoldCounts, FoldRoc, LevelCounts, Roc, count_levels, roc
from eus_ray.analysis.measures.thumbnails import probability_jpeg
from eus_ray.config import Study
from eus_ray.metrics import predicted_mask
from eus_ray.store import PartKey, Store, TrialKey

_KEY = ["model", "trial", "fold", "image_id"]
_FOLD = ("model", "kind", "trial", "fold")
_NUM_ROWS_AT_ONCE = 16


class MovedError(Exception):
    """A file was replaced while it was read: a run is writing."""


class Measured(NamedTuple):
    """One prediction's measures."""

    row: dict[str, Any]
    """Key, `kind`, metrics and `diagonal`."""
    outline: Outline
    picture: bytes
    """The probabilities as a small JPEG."""
    bins: npt.NDArray[np.float64]
    """See `Calibration`."""
    roc: Roc
    counts: LevelCounts


class _Group(NamedTuple):
    """A row group of a file of predictions."""

    name: str
    place: int
    num_groups: int
    """The groups that the file had when the work was shared out."""
    kind: str
    folds: frozenset[int]


@dataclass
class Measurements:
    """The measures of many predictions."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    outlines: dict[tuple[str, str, str], Outline] = field(default_factory=dict)
    """By model, kind and image_id."""
    pictures: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    """The probabilities as small JPEGs, by model, kind and image_id."""
    bins: dict[tuple[str, str, str], npt.NDArray[np.float64]] = field(default_factory=dict)
    """How well the probabilities are calibrated, by model, kind and image_id; see `Calibration`."""
    rocs: dict[tuple[str, str, int], FoldRoc] = field(default_factory=dict)
    """By model, kind and fold."""
    problems: list[str] = field(default_factory=list)
    """One line for each prediction that cannot be measured."""


def trial_files(store: Store, table: str, model: str, trial: int, folds: Collection[int]) -> list[str]:
    """Return the files that hold one trial's rows of a table in some folds.

    A finished trial has one file for all its folds.
    """
    wanted = {layout.part_name(table, PartKey(model, trial, 0, fold)) for fold in folds}
    wanted.add(layout.whole_name(table, TrialKey(model, trial)))
    return [name for name in store.part_names(table, model) if name in wanted]


def measure(
    store: Store,
    folds: pd.DataFrame,
    cases: dict[str, Case],
    patients: Mapping[str, str],
    processes: int | None = None,
) -> Measurements:
    """Measure stored predictions.

    Args:
        store: The study folder.
        folds: The trials and folds to read: `model, kind, trial, fold`.
        cases: Truths by image_id.
        patients: patient_id by image_id, for pooled curves.
        processes: How many processes measure; by default all cores share many predictions.

    Raises:
        MovedError: If a run replaces files meanwhile: begin again.
        FileNotFoundError: If a run joins files meanwhile: begin again.
    """
    groups, num_predictions = [], 0
    for _, mine in folds.groupby(["model", "kind", "trial"], sort=False):
        of, wanted = mine.iloc[0], frozenset(mine["fold"])
        for name in trial_files(store, "predictions", of["model"], of["trial"], wanted):
            with store.fs.open_input_file(store.path(name)) as file:
                metadata = pq.ParquetFile(file).metadata
            num_predictions += metadata.num_rows
            groups += [
                _Group(name, index, metadata.num_row_groups, of["kind"], wanted)
                for index in range(metadata.num_row_groups)
            ]
    measurer = _GroupMeasurer(store, cases, measuring_settings(store))
    return _collect(in_processes(measurer, groups, processes, num_predictions), patients)


def _collect(parts: Iterable[tuple[list[Measured], list[str]]], patients: Mapping[str, str]) -> Measurements:
    """Join what the groups gave, in their order.

    A fold's images come together, so that the pixels of one fold are counted at a time.
    """
    result = Measurements()
    images = _images(parts, result.problems)
    for (model, kind, trial, fold), mine in groupby(images, lambda one: tuple(one.row[name] for name in _FOLD)):
        if (model, kind, fold) in result.rocs:
            result.problems.append(f"{model}, trial {trial}: rows of fold {fold} are apart")
        pixels = FoldCounts(fold)
        for row, polygons, picture, bins, curve, counts in mine:
            result.rows.append(row)
            shown = model, kind, row["image_id"]
            result.outlines[shown], result.pictures[shown], result.bins[shown] = polygons, picture, bins
            pixels.add(patients.get(row["image_id"], ""), counts, curve.tpr)
        result.rocs[model, kind, fold] = pixels.finish()
    return result


def _images(parts: Iterable[tuple[list[Measured], list[str]]], problems: list[str]) -> Iterator[Measured]:
    """Yield the images of all parts, one by one; their problems go to `problems`."""
    for measured, more in parts:
        problems += more
        yield from measured


@dataclass(frozen=True)
class _GroupMeasurer:
    """Measure row groups. Cases are not sent to another process, which reads its own."""

    store: Store
    cases: dict[str, Case]
    settings: Study

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_measurer, (self.store, self.settings)

    def __call__(self, group: _Group) -> tuple[list[Measured], list[str]]:
        measured, problems = [], []
        for key, size, levels in _maps(self.store, group):
            try:
                case = self.cases.get(key["image_id"])
                measured.append(_measure_one(key | {"kind": group.kind}, size, levels, case, self.settings))
            except ValueError as error:
                problems.append(f"{self.store.path(group.name)}: image {key['image_id']}: {error}")
        return measured, problems


def _read_measurer(store: Store, settings: Study) -> _GroupMeasurer:
    return _GroupMeasurer(store, read_cases(store), settings)


def _maps(store: Store, group: _Group) -> Iterator[tuple[dict[str, Any], tuple[int, int], npt.NDArray[np.uint16]]]:
    """Yield key, height and width, and the flat levels of each prediction."""
    with store.fs.open_input_file(store.path(group.name)) as stream:
        file = pq.ParquetFile(stream)
        if file.metadata.num_row_groups != group.num_groups:
            raise MovedError(group.name)
        for batch in file.iter_batches(_NUM_ROWS_AT_ONCE, row_groups=[group.place], use_threads=False):
            column = batch.column("probability")
            levels, offsets = column.values.to_numpy(zero_copy_only=False), column.offsets.to_numpy()
            rows = batch.select([*_KEY, "height", "width"]).to_pylist()
            for row, start, end in zip(rows, offsets[:-1], offsets[1:], strict=True):
                if row["fold"] in group.folds:
                    yield row, (row.pop("height"), row.pop("width")), levels[start:end]


def _measure_one(
    key: dict[str, Any],
    size: tuple[int, int],
    levels: npt.NDArray[np.uint16],
    case: Case | None,
    settings: Study,
) -> Measured:
    """Measure one prediction. Raises `ValueError` if its sizes do not fit."""
    if case is None:
        raise ValueError(f"is predicted, but {layout.CASES_FILE} has no such image")
    truth = case.truth()
    if not truth.shape == (case.height, case.width) == size or levels.size != truth.size:
        raise ValueError(
            f"its prediction is {size[0]} x {size[1]} with {levels.size} values, "
            f"its truth {truth.shape[0]} x {truth.shape[1]}"
        )
    probability = levels.reshape(size)
    made = settings.evaluate
    found = predicted_mask(probability, made.threshold, made.keep, made.fill_holes)
    counts = count_levels(probability, truth)
    ranked = roc(counts)
    calibrated = calibration(probability, truth, found, counts)
    row = {
        **key,
        **image_metrics(truth, found, spacing=case.spacing, tolerance=settings.analysis.tolerance),
        "auc": ranked.auc,
        **dict(zip(CALIBRATION, calibrated[1:], strict=True)),
        "diagonal": diagonal(size, case.spacing),
    }
    return Measured(row, outline(found), probability_jpeg(probability), calibrated.bins, ranked, counts)
