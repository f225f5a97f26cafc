"""The table of trials says how large each network is, and on what it was trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from eus_ray.config import Study
from eus_ray.models import build_model
from eus_ray.store import TRIALS_FILE, Hardware, Store, TrialKey, TrialKind, read_records, read_trials
from eus_ray.store.event_log import FoldReport, read_reports
from eus_ray.study.trials import Trials

KEY = TrialKey("unet", 0)
CPU = Hardware("EPYC", 0.0, 2, "float32")
GPU = Hardware("H200", 0.5, 2, "bfloat16")


def study_of(width: int) -> Study:
    return Study.model_validate({"models": ["unet"], "model": {"width": width}}).for_model("unet")


def report_on(hardware: Hardware) -> FoldReport:
    return FoldReport(0, 0, 0.5, 0.5, "test", 0.5, finished=True, hardware=hardware)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "study")


def test_a_trial_has_the_parameters_of_its_own_width(store: Store) -> None:
    trials = Trials(store)
    for number, width in enumerate((2, 3)):
        trials.begin(TrialKey("unet", number), TrialKind.TRIAL, study_of(width))
    expected = [
        sum(weight.numel() for weight in build_model(study_of(width).model, seed=0).parameters()) for width in (2, 3)
    ]
    assert [record.parameters for record in read_records(store)] == expected
    assert read_trials(store)["parameters"].tolist() == expected
    assert expected[0] < expected[1]


def test_hardware_is_kept_as_the_folds_report_it(store: Store) -> None:
    trials = Trials(store)
    trials.begin(KEY, TrialKind.FIXED, study_of(2))
    assert read_records(store)[0].hardware == Hardware()
    trials.report(KEY, [report_on(CPU), report_on(CPU)])
    trials.report(KEY, [report_on(Hardware())])
    assert read_records(store)[0].hardware == CPU
    assert read_trials(store)[["device", "gpus", "threads", "precision"]].to_dict("records") == [
        {"device": "EPYC", "gpus": 0, "threads": 2, "precision": "float32"}
    ]


def test_a_trial_that_goes_on_elsewhere_names_both(store: Store) -> None:
    trials = Trials(store)
    trials.begin(KEY, TrialKind.FIXED, study_of(2))
    trials.report(KEY, [report_on(CPU)])
    again = Trials(store)
    again.begin(KEY, TrialKind.FIXED, study_of(2))
    again.report(KEY, [report_on(GPU)])
    again.report(KEY, [report_on(CPU)])
    assert read_records(store)[0].hardware == Hardware("EPYC; H200", None, 2, "float32; bfloat16")


def test_the_log_of_an_epoch_leaves_the_hardware_out(store: Store) -> None:
    trials = Trials(store)
    trials.begin(KEY, TrialKind.FIXED, study_of(2))
    trials.report(KEY, [report_on(GPU)])
    assert read_reports(store, KEY) == [report_on(Hardware())]


def test_a_table_of_an_older_study_goes_on(store: Store) -> None:
    Trials(store).begin(KEY, TrialKind.FIXED, study_of(2))
    table = store.read_table(TRIALS_FILE)
    store.write_table(TRIALS_FILE, table.drop_columns(["parameters", "device", "gpus", "threads", "precision"]))
    record = read_records(store)[0]
    assert (record.parameters, record.hardware) == (None, Hardware())
    assert record.settings["model.width"] == 2
    Trials(store).update(KEY, folds_done=1)
    assert read_trials(store)["parameters"].isna().all()
    Trials(store).begin(KEY, TrialKind.FIXED, study_of(2))
    assert read_records(store)[0].parameters is not None


def test_a_label_that_changes_is_that_of_all_trials_of_the_model(store: Store) -> None:
    trials = Trials(store)
    for key in (TrialKey("unet", 0), TrialKey("unet", 1), TrialKey("daf_net", 0)):
        trials.begin(key, TrialKind.TRIAL, study_of(2))
    before = store.read_bytes(TRIALS_FILE)
    study = Study.model_validate({"models": ["unet"], "only": {"unet": {"model.label": "U-Net, narrow"}}})
    Trials(store).relabel(Study(models=("unet",)))
    assert store.read_bytes(TRIALS_FILE) == before
    Trials(store).relabel(study)
    labels = {record.key: record.settings["model.label"] for record in read_records(store)}
    assert labels == {("unet", 0): "U-Net, narrow", ("unet", 1): "U-Net, narrow", ("daf_net", 0): ""}
    Trials(store).relabel(Study(models=("unet",)))
    assert {record.settings["model.label"] for record in read_records(store)} == {""}


def test_a_table_of_an_older_study_has_no_label_to_change(store: Store) -> None:
    Trials(store).begin(KEY, TrialKind.FIXED, study_of(2))
    store.write_table(TRIALS_FILE, store.read_table(TRIALS_FILE).drop_columns(["model.label"]))
    before = store.read_bytes(TRIALS_FILE)
    Trials(store).relabel(Study(models=("unet",)))
    assert store.read_bytes(TRIALS_FILE) == before
