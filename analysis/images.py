"""`report/images.parquet`: every metric of every predicted image, read from the study folder.

Predictions are read a few at a time, so memory does not grow with the study, and the same pass keeps each mask's
outline for the report. A study in which folds are missing, are being written, or were killed gives what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from eus_ray import store as layout
from eus_ray.analysis.cases import Case
from eus_ray.analysis.labels import model_label
from eus_ray.analysis.metrics import COUNTS, METRICS
from eus_ray.analysis.outlines import Outline
from eus_ray.analysis.predictions import MovedError, measure, trial_files
from eus_ray.config import UserError
from eus_ray.store import Store

KINDS = ("fixed", "winner")
"""Trials whose predictions are reported as they are."""
IDENTITY = ("model", "kind", "fold", "image_id", "patient_id")
NOT_CLINICAL = frozenset(
    {*IDENTITY, *METRICS, "diagonal", "image", "mask", "height", "width", "lesion_share"}
    | {"spacing_row", "spacing_col", "spacing_mm", "spacing_row_mm", "spacing_col_mm"}
)
"""Columns of a manifest, or of a table of scores, that say nothing about the patient."""

_ATTEMPTS = 5
_MOST_LINES = 20


@dataclass(frozen=True)
class StudyImages:
    frame: pd.DataFrame
    """One row a model, kind and image: `IDENTITY`, clinical columns, `METRICS`, and `diagonal`, which stands for an
    infinite distance in a mean. Models are in the order of the trials, images in that of the manifest."""
    outlines: dict[tuple[str, str, str], Outline]
    """Outline of each predicted mask, by model, kind and image_id."""


def clinical_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that describe patients or images, in the table's order."""
    return [column for column in frame.columns if column not in NOT_CLINICAL]


def reported_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials whose predictions are reported: the last fixed one and the last winner of each model."""
    return trials[trials["kind"].isin(KINDS)].drop_duplicates(["model", "kind"], keep="last")


def read_study_images(store: Store, cases: dict[str, Case], processes: int | None = None) -> StudyImages:
    """Measure all stored predictions of the reported trials; many predictions on all cores, unless told otherwise.

    Empty where nothing is predicted yet. Raises `UserError` naming the images whose stored counts, folds, sizes or
    truths contradict the predictions.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _read(store, cases, processes, last=attempt == _ATTEMPTS)
        except (MovedError, FileNotFoundError):
            continue
    raise UserError(f"{store.location}: a run replaces predictions faster than they can be read; analyse again later")


def _read(store: Store, cases: dict[str, Case], processes: int | None, last: bool) -> StudyImages:
    trials = reported_trials(layout.read_trials(store))
    found = measure(store, trials, cases, processes)
    problems, frame = found.problems, _no_rows()
    if found.rows:
        manifest = layout.read_manifest(store)
        frame = pd.DataFrame(found.rows)
        problems += _disagreements(frame, manifest)
        frame, contradicted = _check_counts(frame, _test_counts(store, trials), trials)
        if contradicted and not last and (trials["state"] == "running").any():
            raise MovedError  # scores and predictions of one fold were read around their replacement
        problems += contradicted
        if not problems:
            frame = _in_order(frame, manifest, list(dict.fromkeys(trials["model"])))
    if problems:
        more = len(problems) - _MOST_LINES
        rest = (f"... and {more} more lines like these",) if more > 0 else ()
        raise UserError(*problems[:_MOST_LINES], *rest)
    return StudyImages(frame, found.outlines)


def _no_rows() -> pd.DataFrame:
    types = dict.fromkeys((*IDENTITY, *METRICS, "diagonal"), "float64")
    types |= dict.fromkeys((*COUNTS, "fold", "components"), "int64") | {"missed": "bool", "false_alarm": "bool"}
    types |= dict.fromkeys(("model", "kind", "image_id", "patient_id"), "str")
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})


# ---- checking -----------------------------------------------------------------------------------


def _test_counts(store: Store, trials: pd.DataFrame) -> pd.DataFrame:
    columns = ["model", "trial", "fold", "epoch", "image_id", "split", *COUNTS]
    tables = [layout.SCORES.empty_table().select(columns)]
    for trial in trials.drop_duplicates(["model", "trial"]).to_dict("records"):
        for name in trial_files(store, "scores", trial["model"], trial["trial"]):
            rows = store.read_table(name, columns).cast(tables[0].schema)
            tables.append(rows.filter(pc.equal(rows["split"], "test")))
    frame = pa.concat_tables(tables).to_pandas()
    key = ["model", "trial", "fold", "image_id"]
    return frame.sort_values("epoch", kind="stable").drop_duplicates(key, keep="last")


def _check_counts(frame: pd.DataFrame, counts: pd.DataFrame, trials: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rows that the training's own counts confirm, and a line for each that they contradict.

    A fold killed between writing its predictions and its counts is unfinished: its rows are left out, unless its trial
    claims to be complete.
    """
    stored = counts.rename(columns={name: f"stored_{name}" for name in COUNTS})
    both = frame.merge(stored.drop(columns=["epoch", "split"]), "left", ["model", "trial", "fold", "image_id"])
    known = both["stored_tp"].notna()
    complete = trials.set_index(["model", "trial"])["state"].eq("complete")
    claimed = pd.Series(
        [bool(complete[key]) for key in zip(both["model"], both["trial"], strict=True)], both.index, bool
    )
    lines = [
        f"{_where(row)}: predicted, but the scores of this complete trial do not have it; train this model again "
        "with --resume"
        for row in both[~known & claimed].to_dict("records")
    ]
    same = (both[list(COUNTS)].to_numpy() == both[[f"stored_{name}" for name in COUNTS]].to_numpy()).all(axis=1)
    for row in both[known & ~same].to_dict("records"):
        ours = ", ".join(f"{name} {row[name]}" for name in COUNTS)
        theirs = ", ".join(f"{name} {row[f'stored_{name}']:.0f}" for name in COUNTS)
        lines.append(
            f"{_where(row)}: prediction and truth give {ours}, but the scores have {theirs}; two runs are mixed here: "
            "train this model again with --resume"
        )
    return frame[known.to_numpy()], lines


def _where(row: Mapping[Any, Any]) -> str:
    return f"{row['model']}, trial {row['trial']}, fold {row['fold']}, image {row['image_id']}"


def _disagreements(frame: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    folds = dict(zip(manifest["image_id"], manifest["fold"], strict=True))
    lines = []
    for row in frame.to_dict("records"):
        fold = folds.get(row["image_id"])
        if fold != row["fold"]:
            there = "does not have it" if fold is None else f"has it in fold {fold}"
            lines.append(f"{_where(row)}: {layout.MANIFEST} {there}")
    twice = frame[frame.duplicated(["model", "kind", "image_id"])]
    return lines + [f"{_where(row)}: predicted twice" for row in twice.to_dict("records")]


def _in_order(frame: pd.DataFrame, manifest: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    clinical = clinical_columns(manifest)
    places = {"model": {model: place for place, model in enumerate(models)}}
    places["image_id"] = {image: place for place, image in enumerate(manifest["image_id"])}
    order = frame[["model", "kind", "fold", "image_id"]].assign(
        **{column: frame[column].map(place) for column, place in places.items()}
    )
    frame = frame.loc[order.sort_values(["model", "kind", "fold", "image_id"]).index]
    described = frame.merge(manifest[["image_id", "patient_id", *clinical]], "left", "image_id")
    return described[[*IDENTITY, *clinical, *METRICS, "diagonal"]].reset_index(drop=True)


def unfinished(manifest: pd.DataFrame, trials: pd.DataFrame, frame: pd.DataFrame, models: Iterable[str]) -> list[str]:
    """One line for each model of which something is missing; none for a finished study."""
    folds = manifest.groupby("fold")["image_id"].size()
    reported = reported_trials(trials)
    lines = [f"{model_label(model)}: not started" for model in models if model not in set(trials["model"])]
    lines += [
        f"{model_label(model)}: the search goes on; no setting is chosen yet"
        for model in trials["model"].drop_duplicates()
        if model not in set(reported["model"])
    ]
    for row in reported.to_dict("records"):
        mine = frame[(frame["model"] == row["model"]) & (frame["kind"] == row["kind"])]
        there = mine.groupby("fold")["image_id"].size().reindex(folds.index, fill_value=0)
        absent = [str(fold) for fold in folds.index[there == 0]]
        lacks = [f"fold{'s' if len(absent) > 1 else ''} {', '.join(absent)}"] if absent else []
        lacks += [
            f"{expected - have} of the {expected} images of fold {fold}"
            for fold, have, expected in zip(folds.index, there, folds, strict=True)
            if 0 < have < expected
        ]
        state = row["state"] + (f" ({row['reason']})" if row["reason"] else "")
        if lacks:
            done = f"{int((there == folds).sum())} of {len(folds)} folds finished"
            lines.append(f"{model_label(row['model'])}: {done}, {state}; missing {', '.join(lacks)}")
        elif row["state"] == "failed":
            lines.append(f"{model_label(row['model'])}: {state}")
    return lines
