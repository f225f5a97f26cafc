"""Progress of a study: fold-epochs of each model, or trials of each search and then its winner's fold-epochs."""

from __future__ import annotations

from rich.console import Console

from eus_ray.cli.parsing import print_warnings
from eus_ray.cli.progress.bars import Bars
from eus_ray.config import Study
from eus_ray.store import TrialKey, TrialKind, TrialRecord, TrialState
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import Callback, SearchUpdate


class StudyProgress(Callback):
    """Show how a study goes on; a context.

    Args:
        study: What is trained.
        console: Where to print.
    """

    def __init__(self, study: Study, console: Console) -> None:
        self._num_folds = study.folds.count
        self._fold_epochs, self._trials = Bars("fold-epochs", console), Bars("trials", console)
        self._say = self._trials.say
        self._shown: Bars | None = None
        self._epochs: dict[TrialKey, int] = {}
        """The epochs of each fold, by trials that have a bar of their own."""
        self._done: dict[TrialKey, dict[int, int]] = {}
        self._tested: dict[TrialKey, dict[int, float]] = {}
        self._searched: dict[TrialKey, str] = {}
        """Where each running trial of a search is."""

    def __enter__(self) -> StudyProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._shown.__exit__()

    def _show(self, bars: Bars) -> None:
        """Let these bars take the place of the others: a terminal has room for one kind."""
        if self._shown is not bars:
            self.__exit__()
            self._shown = bars.__enter__()

    def on_plan(self, text: str) -> None:
        """Print the plan."""
        self._say(text)

    def on_warning(self, text: str) -> None:
        """Print a warning on standard error; they come before anything is trained."""
        print_warnings([text])

    def on_trial_begin(self, trial: TrialRecord) -> None:
        """Show a bar for a cross-validation of fixed settings."""
        if trial.kind is TrialKind.TRIAL:
            return
        self._show(self._fold_epochs)
        epochs = int(trial.settings["train.stop_after"] or trial.settings["train.epochs"])
        self._epochs[trial.key] = epochs
        self._done[trial.key], self._tested[trial.key] = {}, {}
        self._fold_epochs.add(trial.model, self._num_folds * epochs, "waiting")

    def on_trial_note(self, key: TrialKey, text: str) -> None:
        """Print what happened to a trial."""
        self._say(f"{self._name(key)}: {text}")

    def on_fold_report(self, key: TrialKey, report: FoldReport) -> None:
        """Show how far a trial is."""
        if key not in self._epochs:
            self._searched[key] = f"fold {report.fold} epoch {report.epoch}"
            return
        self._done[key][report.fold] = report.epoch + 1
        if report.monitor_dsc is not None:
            self._tested[key][report.fold] = report.monitor_dsc
        tested = self._tested[key].values()
        text = (
            f"test DSC {sum(tested) / len(tested):.3f} ({len(tested)}/{self._num_folds} folds)"
            if tested
            else f"training DSC {report.train_dsc:.3f}"
        )
        total = self._num_folds * self._epochs[key]
        self._fold_epochs.update(key.model, sum(self._done[key].values()), total, text)

    def on_trial_end(self, trial: TrialRecord) -> None:
        """Print how a trial ended."""
        self._searched.pop(trial.key, None)
        score = ""
        if tested := list(self._tested.get(trial.key, {}).values()):
            score = f", mean test DSC {sum(tested) / len(tested):.3f} over {len(tested)} folds"
        elif trial.kind is TrialKind.TRIAL and trial.state is TrialState.COMPLETE:
            score = f", score {trial.value:.3f}"
        self._say(f"{self._name(trial.key)}: {trial.state}{score}{': ' + trial.reason if trial.reason else ''}")

    def on_search_update(self, update: SearchUpdate) -> None:
        """Show how far a search is."""
        self._show(self._trials)
        states, best = update.states, update.best
        done = sum(states.values()) - states[TrialState.RUNNING]
        text = "" if best is None else f"best {update.metric} {best.value:.3f} (trial {best.trial}), "
        text += f"{states[TrialState.COMPLETE]} complete, {states[TrialState.PRUNED]} stopped"
        text += f", {states[TrialState.FAILED]} failed" if states[TrialState.FAILED] else ""
        running = [f"{key.trial}: {at}" for key, at in sorted(self._searched.items()) if key.model == update.model]
        plain = f"now trial {'; '.join(running)}" if running else ""
        self._trials.update(update.model, done, update.num_trials, text, plain)

    def _name(self, key: TrialKey) -> str:
        return key.model if key in self._epochs else f"{key.model} trial {key.trial}"
