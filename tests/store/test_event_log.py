"""The events of a trial as JSON lines, and beside them for people."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from eus_ray.store import Store, TrialKey
from eus_ray.store.event_log import FoldReport, log_notes, log_reports, read_reports

KEY = TrialKey("unet", 3)
REPORT = FoldReport(
    fold=1,
    epoch=0,
    loss=0.25,
    train_dsc=0.5,
    monitor_split="validation",
    monitor_dsc=0.75,
    finished=False,
    patient_scores=np.array([0.5, math.nan]),
    started=100.0,
    ended=101.5,
    note="a person should know",
)


def test_what_is_written_is_read_back_without_patients(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log_reports(store, KEY, [REPORT, replace(REPORT, fold=0, loss=math.nan, monitor_dsc=None, error="the loss is nan")])
    first, second = read_reports(store, KEY)
    assert first == replace(REPORT, patient_scores=None, note="")
    assert (second.fold, second.monitor_dsc, second.error) == (0, None, "the loss is nan")
    assert math.isnan(second.loss)
    for line in store.read_text("logs/unet_trial-3.jsonl").splitlines():
        event = json.loads(line, parse_constant=lambda name: f"{name} is no JSON")
        assert event["event"] == "epoch"
        assert event["loss"] in (0.25, None)
        assert "patient_scores" not in event


def test_the_readable_log_says_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log_reports(store, KEY, [REPORT])
    log_notes(store, KEY, ["lost worker 1"])
    first, second = store.read_text("logs/unet_trial-3.log").splitlines()
    assert first.endswith("fold 1 epoch 0: loss 0.2500, training DSC 0.5000, validation DSC 0.7500")
    assert second.endswith(" lost worker 1")
    note = json.loads(store.read_text("logs/unet_trial-3.jsonl").splitlines()[1])
    assert (note["event"], note["text"]) == ("note", "lost worker 1")


def test_an_epoch_that_was_trained_again_counts_once_and_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log_reports(store, KEY, [REPORT, replace(REPORT, fold=0)])
    log_reports(store, KEY, [replace(REPORT, loss=0.125)])
    assert [(report.fold, report.loss) for report in read_reports(store, KEY)] == [(0, 0.25), (1, 0.125)]


def test_a_line_that_a_kill_tore_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log_reports(store, KEY, [REPORT, replace(REPORT, fold=0)])
    path = Path(store.path("logs/unet_trial-3.jsonl"))
    path.write_bytes(path.read_bytes()[:-20])
    assert [report.fold for report in read_reports(store, KEY)] == [1]


def test_before_the_first_epoch_there_is_nothing(tmp_path: Path) -> None:
    assert read_reports(Store(tmp_path), KEY) == []
