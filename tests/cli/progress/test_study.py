"""What is printed while a study runs."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from eus_ray.cli.progress.study import StudyProgress
from eus_ray.config import Study
from eus_ray.store import TrialKey, TrialKind, TrialRecord, TrialState
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import SearchUpdate

STUDY = Study.model_validate({"models": ["unet"], "folds": {"count": 2}})
SETTINGS = {"train.epochs": 4, "train.stop_after": 0}
FIXED = TrialRecord("unet", 0, TrialKind.FIXED, settings=SETTINGS)
TRIED = TrialRecord("unet", 1, TrialKind.TRIAL, settings=SETTINGS)


def report(fold: int, epoch: int, dsc: float | None = None) -> FoldReport:
    return FoldReport(fold, epoch, 0.5, 0.25, "test", dsc, finished=dsc is not None)


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr("eus_ray.cli.progress.bars.PLAIN_INTERVAL_S", 0.0)
    return io.StringIO()


def test_a_cross_validation_counts_fold_epochs(text: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(STUDY, Console(file=text, width=120)) as progress:
        progress.on_plan("2 folds on 2 workers")
        progress.on_warning("two patients are nearly called the same")
        progress.on_trial_begin(FIXED)
        progress.on_fold_report(FIXED.key, report(0, 0))
        progress.on_trial_note(FIXED.key, "lost worker 1")
        progress.on_fold_report(FIXED.key, report(1, 3, dsc=0.5))
        progress.on_fold_report(FIXED.key, report(0, 3, dsc=0.75))
        progress.on_trial_end(replace(FIXED, state=TrialState.COMPLETE))
    assert text.getvalue().splitlines() == [
        "2 folds on 2 workers",
        "unet: 1/8 fold-epochs, training DSC 0.250",
        "unet: lost worker 1",
        "unet: 5/8 fold-epochs, test DSC 0.500 (1/2 folds)",
        "unet: 8/8 fold-epochs, test DSC 0.625 (2/2 folds)",
        "unet: complete, mean test DSC 0.625 over 2 folds",
    ]
    assert capsys.readouterr() == ("", "warning: two patients are nearly called the same\n")


def test_a_search_counts_trials_and_then_its_winners_fold_epochs(text: io.StringIO) -> None:
    states = dict.fromkeys(TrialState, 0) | {TrialState.COMPLETE: 1, TrialState.RUNNING: 1}
    best = replace(TRIED, trial=0, state=TrialState.COMPLETE, value=0.8)
    winner = replace(FIXED, trial=2, kind=TrialKind.WINNER, settings=SETTINGS | {"train.stop_after": 2})
    with StudyProgress(STUDY, Console(file=text, width=120)) as progress:
        progress.on_trial_begin(TRIED)
        progress.on_fold_report(TRIED.key, report(1, 2))
        progress.on_search_update(SearchUpdate("unet", "dsc", 3, states, best))
        progress.on_trial_end(replace(TRIED, state=TrialState.PRUNED, reason="plainly worse"))
        progress.on_trial_end(best)
        progress.on_trial_begin(winner)
        progress.on_fold_report(TrialKey("unet", 2), report(0, 1, dsc=0.5))
    assert text.getvalue().splitlines() == [
        "unet: 1/3 trials, best dsc 0.800 (trial 0), 1 complete, 0 stopped, now trial 1: fold 1 epoch 2",
        "unet trial 1: pruned: plainly worse",
        "unet trial 0: complete, score 0.800",
        "unet: 2/4 fold-epochs, test DSC 0.500 (1/2 folds)",
    ]


def test_bars_on_a_terminal() -> None:
    text = io.StringIO()
    with StudyProgress(STUDY, Console(file=text, width=120, force_terminal=True)) as progress:
        progress.on_trial_begin(FIXED)
        progress.on_fold_report(FIXED.key, report(0, 3, dsc=0.5))
    assert "4/8 fold-epochs" in text.getvalue()
    assert "test DSC 0.500 (1/2 folds)" in text.getvalue()
