"""`trials.parquet`: kinds and states of trials, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import pandas as pd
import pyarrow as pa

from eus_ray.store.layout import MANIFEST, TRIALS, TRIALS_FILE
from eus_ray.store.study_folder import Store


class TrialKind(StrEnum):
    """Why a trial was trained."""

    FIXED = "fixed"
    """Of a cross-validation: the settings are the study's own."""
    TRIAL = "trial"
    """Of a search: the sampler proposed the settings."""
    WINNER = "winner"
    """The best settings of a search, trained again on all training patients of each fold."""


class TrialState(StrEnum):
    """How far a trial has come."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    """Stopped by the search's pruner."""
    FAILED = "failed"
    """Ended by a fault of its own, such as a loss that is not a number."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing of the trial is still to be trained."""
        return self is not TrialState.RUNNING


def write_trials(store: Store, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `trials.parquet`. Settings become columns by dotted name."""
    frame = pd.DataFrame(list(rows))
    settings = [column for column in frame.columns if column not in TRIALS.names]
    columns = {field.name: pa.array(frame[field.name], field.type, from_pandas=True) for field in TRIALS}
    for column in settings:
        values = frame[column].tolist()
        kinds = {type(value) for value in values if value is not None and value == value}
        if not kinds <= {bool} and not kinds <= {int} and not kinds <= {int, float}:
            values = [None if value is None or value != value else str(value) for value in values]
        columns[column] = pa.array(values, from_pandas=True)
    store.write_table(TRIALS_FILE, pa.table(columns))


def read_trials(store: Store) -> pd.DataFrame:
    """`trials.parquet`; no rows before the first trial."""
    if not store.exists(TRIALS_FILE):
        return TRIALS.empty_table().to_pandas()
    return store.read_table(TRIALS_FILE).to_pandas()


def read_manifest(store: Store) -> pd.DataFrame:
    """`manifest.parquet`: image_id, patient_id, fold, clinical columns."""
    return store.read_table(MANIFEST).to_pandas()
