"""The state of a study, told from its folder alone."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from eus_ray import store as names
from eus_ray.cli import main
from eus_ray.config import Study
from eus_ray.config_file import study_toml
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKey, TrialKind, TrialState
from eus_ray.store.event_log import FoldReport, read_reports
from eus_ray.study.status import in_words, read_status
from eus_ray.study.trials import Trials

KEY = TrialKey("unet", 0)


def report(fold: int, epoch: int, started: float, ended: float, dsc: float | None = None) -> FoldReport:
    train_dsc = 0.25 * (fold + 1)
    return FoldReport(fold, epoch, 0.5, train_dsc, "test", dsc, finished=False, started=started, ended=ended)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """U-Net of two folds and four epochs: two epochs of each are done, side by side, 10 s each."""
    study = Study.model_validate({"models": ["unet", "daf_net"], "folds": {"count": 2}, "train": {"epochs": 4}})
    store = Store(tmp_path / "study")
    store.write_text(names.STUDY, study_toml(study))
    trials = Trials(store)
    trials.begin(TrialKey("unet", 0), TrialKind.FIXED, study.for_model("unet"))
    for epoch in (0, 1):
        start = 1000.0 + 10 * epoch
        trials.report(KEY, [report(fold, epoch, start, start + 10) for fold in (0, 1)])
    return store


def hold(store: Store) -> None:
    owner = {"token": "t", "host": "node7", "pid": 42, "born": "", "heartbeat": time.time()}
    store.write_json(names.RUN, owner)


def test_a_running_study_tells_how_far_it_is_and_how_long_it_will_take(store: Store) -> None:
    hold(store)
    status = read_status(store)
    (trial,) = status.trials
    assert status.owner == "process 42 on node7"
    assert status.waiting == ("daf_net",)
    assert (trial.state, trial.num_fold_epochs, trial.max_fold_epochs) == ("running", 4, 8)
    assert trial.train_dsc == pytest.approx((0.25 + 0.5) / 2)
    assert trial.monitor_dsc is None
    # four fold-epochs are left; two run at once, ten seconds each
    assert trial.left_s == pytest.approx(20.0)
    assert in_words(status) == ["unet: 1 running; 4 of 8 fold-epochs of these trained", "waiting: daf_net"]


def test_a_trial_that_nobody_runs_is_stopped(store: Store) -> None:
    (trial,) = read_status(store).trials
    assert (trial.state, trial.left_s) == ("stopped", None)
    assert read_status(store).owner == ""


def test_an_epoch_that_was_trained_again_counts_once(store: Store) -> None:
    trials = Trials(store)
    trials.report(KEY, [report(1, 1, 2000.0, 2010.0)], "worker 1 was lost")
    epochs = read_reports(store, KEY)
    assert [(epoch.fold, epoch.epoch) for epoch in epochs] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert epochs[-1].started == 2000.0
    assert read_status(store).trials[0].num_fold_epochs == 4


def test_scores_and_failures_are_read_from_the_log(store: Store) -> None:
    trials = Trials(store)
    failed = replace(report(1, 3, 1030.0, 1040.0), error="the loss is nan in fold 1", loss=float("nan"))
    trials.report(KEY, [report(0, 3, 1030.0, 1040.0, dsc=0.75), failed])
    trials.update(TrialKey("unet", 0), state=TrialState.FAILED, reason="the loss is nan in fold 1")
    (trial,) = read_status(store).trials
    assert (trial.monitor_split, trial.monitor_dsc) == ("test", 0.75)
    assert (trial.state, trial.reason) == ("failed", "the loss is nan in fold 1")
    assert trial.num_fold_epochs == 5, "the epoch that failed is not done"


def test_the_command_prints_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    hold(store)
    assert main(["status", store.location]) == 0
    printed = capsys.readouterr().out
    assert "run by process 42 on node7" in printed
    assert "4/8" in printed
    assert socket.gethostname() not in printed.splitlines()[0].replace(store.location, "")


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_status(Store(tmp_path / "nothing"))
    with pytest.raises(UserError, match="is not a study folder"):
        read_status(Store(tmp_path))
