"""`report/images.parquet`: all metrics of all predicted images of a study folder.

Predictions are read a few at a time, so memory does not grow with the study; the same pass keeps each mask's outline
for the report. A study in which folds are missing, are being written, or were killed gives the rows that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from eus_ray import store as layout
from eus_ray.analysis.inputs.baseline import baseline_masks, measure_baseline
from eus_ray.analysis.inputs.cases import Case
from eus_ray.analysis.inputs.predictions import MovedError, measure, trial_files
from eus_ray.analysis.inputs.searches import Search, read_searches
from eus_ray.analysis.inputs.settings import measuring_settings
from eus_ray.analysis.inputs.videos import FRAME, TIME, VIDEO
from eus_ray.analysis.labels import KIND_LABELS, Labels, ReportKind
from eus_ray.analysis.measures.image_metrics import COUNTS, METRICS
from eus_ray.analysis.measures.outlines import Outline
from eus_ray.analysis.measures.roc import FoldRoc
from eus_ray.errors import UserError
from eus_ray.metrics import FixedMask
from eus_ray.store import Store, TrialKind, TrialState

IDENTITY = ("model", "kind", "fold", "image_id", "patient_id")
NOT_CLINICAL = frozenset(
    {*IDENTITY, *METRICS, "diagonal", "image", "mask", "height", "width", "lesion_share"}
    | {"spacing_row", "spacing_col", "spacing_mm", "spacing_row_mm", "spacing_col_mm"}
    | {VIDEO, FRAME, TIME, "unit", "grid"}
)
"""Columns of a manifest, or of a score table, that do not describe the patient."""

_MAX_ATTEMPTS = 5
_MAX_LINES = 20


@dataclass(frozen=True)
class StudyImages:
    """The measures of all reported predictions of a study."""

    frame: pd.DataFrame
    """One row a model, kind and image: `IDENTITY`, clinical columns, `METRICS`, and `diagonal`, which stands for an
    infinite distance in a mean. Models are in the order of the trials, the baseline is last; images are in the order of
    the manifest."""
    outlines: dict[tuple[str, str, str], Outline]
    """The predicted masks, by model, kind and image_id."""
    rocs: dict[tuple[str, str, int], FoldRoc]
    """By model, kind and fold."""
    pictures: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    """The probabilities as small JPEGs, by model, kind and image_id."""
    bins: dict[tuple[str, str, str], npt.NDArray[np.float64]] = field(default_factory=dict)
    """How well the probabilities are calibrated, by model, kind and image_id; see `Calibration`."""
    baseline: dict[int, FixedMask] = field(default_factory=dict)
    """The baseline's mask of each fold that a model has predicted, on the grid of the truths; none if no other fold has
    patients."""


def clinical_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that describe patients or images, in the table's order."""
    return [column for column in frame.columns if column not in NOT_CLINICAL]


def of_models(frame: pd.DataFrame) -> list[str]:
    """Return the clinical columns that have two values or more for one image, so that they are no patient's own.

    Args:
        frame: Rows with `image_id`, several of an image if several models have it. A missing value is none.
    """
    columns = clinical_columns(frame)
    if not columns or not frame["image_id"].duplicated().any():
        return []
    numbers = frame[columns].groupby(frame["image_id"]).nunique()
    return [column for column in columns if (numbers[column] > 1).any()]


def reported_folds(trials: pd.DataFrame, searches: Mapping[str, Search], folds: Iterable[int]) -> pd.DataFrame:
    """Return the folds whose predictions are reported.

    These are all folds of the last fixed trial and of the last winner of each model, and what each fold of a search
    under protocol `nested` chose (kind `nested`).

    Args:
        trials: `trials.parquet`.
        searches: The searches by model.
        folds: All folds of the study.

    Returns:
        `model, kind, trial, fold`, and `state` and `reason` of the trial.
    """
    has_all_folds = trials["kind"].isin([TrialKind.FIXED, TrialKind.WINNER])
    whole = trials[has_all_folds].drop_duplicates(["model", "kind"], keep="last")
    rows = whole[["model", "kind", "trial"]].merge(pd.DataFrame({"fold": sorted(folds)}, dtype="int64"), "cross")
    nested = [
        search.fold_winners().assign(model=search.model, kind=ReportKind.NESTED.value)[rows.columns]
        for search in searches.values()
    ]
    rows = pd.concat([rows, *nested], ignore_index=True)
    rows = rows.merge(trials[["model", "trial", "state", "reason"]], on=["model", "trial"])
    models = trials["model"].unique().tolist()
    return rows.sort_values("model", key=lambda names: names.map(models.index), kind="stable", ignore_index=True)


def read_study_images(store: Store, cases: dict[str, Case], processes: int | None = None) -> StudyImages:
    """Measure the stored predictions of all reported folds; none is an empty table.

    Args:
        store: The study folder.
        cases: Truths by image_id.
        processes: How many processes measure; by default all cores share many predictions.

    Raises:
        UserError: If stored counts, folds, sizes or truths contradict predictions; with the images' names.
    """
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            return _read(store, cases, processes, last=attempt == _MAX_ATTEMPTS)
        except (MovedError, FileNotFoundError):
            continue
    raise UserError(f"{store.location}: a run replaces predictions faster than they can be read; analyse again later")


def _read(store: Store, cases: dict[str, Case], processes: int | None, last: bool) -> StudyImages:
    if not store.exists(layout.MANIFEST):
        return StudyImages(_no_rows(), {}, {})
    manifest, trials = layout.read_manifest(store), layout.read_trials(store)
    reported = reported_folds(trials, read_searches(store, trials), manifest["fold"].unique())
    patients = dict(zip(manifest["image_id"], manifest["patient_id"], strict=True))
    found = measure(store, reported, cases, patients, processes)
    problems, frame, baseline = found.problems, _no_rows(), {}
    if found.rows:
        frame = pd.DataFrame(found.rows)
        problems += _disagreements(frame, manifest)
        frame, contradicted = _check_counts(frame, _test_counts(store, reported), reported)
        if contradicted and not last and (trials["state"] == TrialState.RUNNING).any():
            raise MovedError  # scores and predictions of one fold were read around their replacement
        problems += contradicted
        if not problems:
            settings = measuring_settings(store)
            baseline = baseline_masks(manifest, cases, frame["fold"].unique(), settings)
            rows = measure_baseline(store, manifest, cases, baseline, settings, processes)
            frame = pd.concat([frame, pd.DataFrame(rows)]) if rows else frame
            frame = _in_order(frame, manifest, [*dict.fromkeys(reported["model"]), ReportKind.BASELINE])
    if problems:
        more = len(problems) - _MAX_LINES
        rest = (f"... and {more} more lines like these",) if more > 0 else ()
        raise UserError(*problems[:_MAX_LINES], *rest)
    counted = frame.groupby(["model", "kind", "fold"]).size()
    rocs = {key: fold for key, fold in found.rocs.items() if counted.get(key) == fold.num_images}
    return StudyImages(frame, found.outlines, rocs, found.pictures, found.bins, baseline)


def _no_rows() -> pd.DataFrame:
    types = {
        **dict.fromkeys((*IDENTITY, *METRICS, "diagonal"), "float64"),
        **dict.fromkeys((*COUNTS, "fold", "components"), "int64"),
        **dict.fromkeys(("missed", "false_alarm", "empty"), "bool"),
        **dict.fromkeys(("model", "kind", "image_id", "patient_id"), "str"),
    }
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})


# ---- checking -----------------------------------------------------------------------------------


def _test_counts(store: Store, reported: pd.DataFrame) -> pd.DataFrame:
    columns = ["model", "trial", "fold", "epoch", "image_id", "split", *COUNTS]
    tables = [layout.SCORES.empty_table().select(columns)]
    for _, mine in reported.groupby(["model", "trial"], sort=False):
        of = mine.iloc[0]
        for name in trial_files(store, "scores", of["model"], of["trial"], set(mine["fold"])):
            rows = store.read_table(name, columns).cast(tables[0].schema)
            tables.append(rows.filter(pc.equal(rows["split"], "test")))
    frame = pa.concat_tables(tables).to_pandas()
    key = ["model", "trial", "fold", "image_id"]
    return frame.sort_values("epoch", kind="stable").drop_duplicates(key, keep="last")


def _check_counts(frame: pd.DataFrame, counts: pd.DataFrame, reported: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that the training's counts confirm, and what they contradict.

    A fold killed between writing its predictions and its counts is unfinished: its rows are left out, unless its trial
    is said to be complete.
    """
    stored = counts.rename(columns={name: f"stored_{name}" for name in COUNTS})
    both = frame.merge(stored.drop(columns=["epoch", "split"]), "left", ["model", "trial", "fold", "image_id"])
    both = both.merge(reported[["model", "trial", "state"]].drop_duplicates(), "left", ["model", "trial"])
    known = both["stored_tp"].notna()
    lines = [
        f"{_where(row)}: predicted, but the scores of this complete trial do not have it; resume the run "
        "to train this model again"
        for row in both[~known & (both["state"] == TrialState.COMPLETE)].to_dict("records")
    ]
    same = (both[list(COUNTS)].to_numpy() == both[[f"stored_{name}" for name in COUNTS]].to_numpy()).all(axis=1)
    for row in both[known & ~same].to_dict("records"):
        ours = ", ".join(f"{name} {row[name]}" for name in COUNTS)
        theirs = ", ".join(f"{name} {row[f'stored_{name}']:.0f}" for name in COUNTS)
        lines.append(
            f"{_where(row)}: prediction and truth give {ours}, but the scores have {theirs}; two runs are mixed here: "
            "resume the run to train this model again"
        )
    return frame[known.to_numpy()], lines


def _where(row: Mapping[Any, Any]) -> str:
    return f"{row['model']}, trial {row['trial']}, fold {row['fold']}, image {row['image_id']}"


def _disagreements(frame: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    folds = dict(zip(manifest["image_id"], manifest["fold"], strict=True))
    lines = [
        f"{_where(row)}: {layout.MANIFEST} " + ("does not have it" if fold is None else f"has it in fold {fold}")
        for row in frame.to_dict("records")
        if (fold := folds.get(row["image_id"])) != row["fold"]
    ]
    twice = frame[frame.duplicated(["model", "kind", "image_id"])]
    return lines + [f"{_where(row)}: predicted twice" for row in twice.to_dict("records")]


def _in_order(frame: pd.DataFrame, manifest: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    clinical = clinical_columns(manifest)
    places = {
        name: {value: place for place, value in enumerate(values)}
        for name, values in (("model", models), ("image_id", manifest["image_id"]))
    }
    frame = frame.sort_values(
        ["model", "kind", "fold", "image_id"],
        key=lambda column: column.map(places[column.name]) if column.name in places else column,
    )
    described = frame.drop(columns="trial").merge(manifest[["image_id", "patient_id", *clinical]], "left", "image_id")
    return described[[*IDENTITY, *clinical, *METRICS, "diagonal"]]


def unfinished(
    manifest: pd.DataFrame,
    trials: pd.DataFrame,
    frame: pd.DataFrame,
    models: Iterable[str],
    searches: Mapping[str, Search],
    labels: Labels,
) -> list[str]:
    """Name what is missing; nothing for a finished study.

    Args:
        manifest: `manifest.parquet`.
        trials: `trials.parquet`.
        frame: `StudyImages.frame`.
        models: The models that the study asks for.
        searches: The searches by model.
        labels: The models' names for print.

    Returns:
        One line for each unfinished kind of each model.
    """
    lines = [f"{labels[model]}: not started" for model in models if model not in {*trials["model"], *searches}]
    for model in dict.fromkeys([*trials.loc[trials["kind"] == TrialKind.TRIAL, "model"], *searches]):
        search, won = searches.get(model), (trials["model"] == model) & (trials["kind"] == TrialKind.WINNER)
        if search is not None and search.ended and not (search.trials["state"] == TrialState.COMPLETE).any():
            lines.append(f"{labels[model]}: none of the search's {len(search.trials)} trials was completed")
        elif search is None or search.selection.empty:
            lines.append(f"{labels[model]}: the search goes on; no setting is chosen yet")
        elif not won.any():
            lines.append(f"{labels[model]}: the chosen setting is not trained again yet")
    folds = manifest.groupby("fold")["image_id"].size()
    for (model, kind), mine in reported_folds(trials, searches, folds.index).groupby(["model", "kind"], sort=False):
        predicted = frame[(frame["model"] == model) & (frame["kind"] == kind)]
        name = labels[str(model)] + (f" ({kind})" if kind in KIND_LABELS else "")
        lines += _lacking(name, mine.iloc[0], predicted, folds)
    return lines


def _lacking(name: str, trial: pd.Series, predicted: pd.DataFrame, folds: pd.Series) -> list[str]:
    """Return a line if images of some folds are not predicted, or the trial failed.

    `folds`: the number of images by fold.
    """
    there = predicted.groupby("fold")["image_id"].size().reindex(folds.index, fill_value=0)
    absent = [str(fold) for fold in folds.index[there == 0]]
    lacks = [f"fold{'s' if len(absent) > 1 else ''} {', '.join(absent)}"] if absent else []
    lacks += [
        f"{expected - have} of the {expected} images of fold {fold}"
        for fold, have, expected in zip(folds.index, there, folds, strict=True)
        if 0 < have < expected
    ]
    state = trial["state"] + (f" ({trial['reason']})" if trial["reason"] else "")
    if lacks:
        done = (there == folds).sum()
        return [f"{name}: {done} of {len(folds)} folds finished, {state}; missing {', '.join(lacks)}"]
    return [f"{name}: {state}"] if trial["state"] == TrialState.FAILED else []
