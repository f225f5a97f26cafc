"""The events of a running study, for a progress display, TensorBoard, MLflow, or a program that uses the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eus_ray.store import TrialKey, TrialRecord, TrialState
from eus_ray.store.event_log import FoldReport


@dataclass(frozen=True)
class SearchUpdate:
    """How far the search of one model is."""

    model: str
    metric: str
    num_trials: int
    """How many were asked for."""
    states: Mapping[TrialState, int]
    """How many trials are in each state."""
    best: TrialRecord | None
    """The complete trial that scored best, the first of equals."""


class Callback:
    """Hear how a study goes on; override what you want to hear.

    Every method is called in the process that runs the study, between two steps of the training: it should return
    soon. An exception ends the run as an interruption does; nothing that was saved is lost.
    """

    def on_plan(self, text: str) -> None:
        """Hear how the folds lie on the machines, or what could be better about it; one line."""

    def on_warning(self, text: str) -> None:
        """Hear what a person should look at in the data; one line."""

    def on_trial_begin(self, trial: TrialRecord) -> None:
        """Hear that a trial begins, or goes on after an interruption."""

    def on_fold_report(self, key: TrialKey, report: FoldReport) -> None:
        """Hear what a fold reports after an epoch."""

    def on_trial_note(self, key: TrialKey, text: str) -> None:
        """Hear what happens to a trial beside its epochs: a worker was lost, a damaged file is made again."""

    def on_trial_end(self, trial: TrialRecord) -> None:
        """Hear that nothing trains a trial any more; its state is `running` if the run was interrupted."""

    def on_search_update(self, update: SearchUpdate) -> None:
        """Hear that a trial of a search has begun or ended."""
