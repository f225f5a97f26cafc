"""What several test files share: a light study, and a study folder's tables as they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from eus_ray.cli import main
from eus_ray.config import Study
from eus_ray.config_file import load_study
from eus_ray.data.dataset import check_data
from eus_ray.store import PARTS, Store, TrialKey, TrialRecord
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import Callback, SearchUpdate
from eus_ray.training.fold import FoldData, train_fold
from eus_ray.training.records import Record


class Recorder(Callback):
    """A callback that remembers what it hears."""

    def __init__(self) -> None:
        self.plans: list[str] = []
        self.warnings: list[str] = []
        self.begun: list[TrialRecord] = []
        self.reports: list[tuple[TrialKey, FoldReport]] = []
        self.notes: list[tuple[TrialKey, str]] = []
        self.ended: list[TrialRecord] = []
        self.updates: list[SearchUpdate] = []

    def on_plan(self, text: str) -> None:
        self.plans.append(text)

    def on_warning(self, text: str) -> None:
        self.warnings.append(text)

    def on_trial_begin(self, trial: TrialRecord) -> None:
        self.begun.append(trial)

    def on_fold_report(self, key: TrialKey, report: FoldReport) -> None:
        self.reports.append((key, report))

    def on_trial_note(self, key: TrialKey, text: str) -> None:
        self.notes.append((key, text))

    def on_trial_end(self, trial: TrialRecord) -> None:
        self.ended.append(trial)

    def on_search_update(self, update: SearchUpdate) -> None:
        self.updates.append(update)


OF_THE_MACHINE = ("device", "gpus", "threads", "precision")
"""Columns of `trials.parquet` that tell where a trial ran. A trial that was stopped as its driver died has none."""

LIGHT = (
    "data.image_size=32",
    "model.width=4",
    "model.encoder=resnet10t",
    "model.decoder_width=8",
    "train.epochs=2",
    "train.batch_size=4",
    "run.checkpoint_interval_s=0",
)
"""Every code path, in a second an epoch."""


def exit_code(words: Sequence[str]) -> int:
    """Run a command in this process and return its exit code, also if the parser refuses it."""
    try:
        return main(words)
    except SystemExit as stopped:
        return int(stopped.code or 0)


def light_study(manifest: Path, *overrides: str, models: tuple[str, ...] = ("unet",)) -> Study:
    return load_study(None, models=models, overrides=[f"data.manifest={manifest}", *LIGHT, *overrides])


def serial(study: Study, model: str) -> dict[str, pd.DataFrame]:
    """The tables of one architecture from `fold.py` alone, one fold after another, without Ray."""
    dataset = check_data(study)
    arrays = dataset.arrays()
    rows: dict[str, list[dict]] = {table: [] for table in PARTS}
    for fold in range(study.folds.count):
        data = FoldData(
            fold=fold,
            images=arrays.images,
            masks=arrays.masks,
            train=np.flatnonzero(dataset.folds != fold),
            test=np.flatnonzero(dataset.folds == fold),
            image_ids=dataset.frame["image_id"].tolist(),
            patient_ids=dataset.frame["patient_id"].tolist(),
        )
        threads = torch.get_num_threads()
        record: Record = train_fold(study.for_model(model), data)
        torch.set_num_threads(threads)
        key = {"model": model, "trial": 0, "repeat": 0, "fold": fold}
        for table in PARTS:
            rows[table] += [key | row for row in getattr(record, table)]
    return {table: comparable(pd.DataFrame(rows[table])[PARTS[table].names]) for table in PARTS}


def tables(folder: Path | str, model: str | None = None) -> dict[str, pd.DataFrame]:
    """The tables of a study folder, as `comparable` has them."""
    return {table: comparable(Store(folder).read_parts(table, model=model).to_pandas()) for table in PARTS}


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Every column but `seconds`, sorted by key; probability maps as bytes."""
    frame = frame.drop(columns="seconds", errors="ignore")
    if "probability" in frame:
        frame["probability"] = [np.asarray(row, dtype=np.uint16).tobytes() for row in frame["probability"]]
    keys = [name for name in ("model", "trial", "repeat", "fold", "epoch", "image_id", "split") if name in frame]
    frame = frame.sort_values(keys, ignore_index=True)
    return frame.astype({name: "int64" for name in frame.columns if frame[name].dtype.kind == "i"})


def assert_same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    for table in PARTS:
        pd.testing.assert_frame_equal(one[table], other[table], check_exact=True, check_dtype=False, obj=table)
