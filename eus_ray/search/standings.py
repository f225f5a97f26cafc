"""How far a trial of a search is: all that a pruner may look at, and what such a trial is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eus_ray.metrics import criterion
from eus_ray.store.event_log import FoldReport

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """How far a trial is, over K folds and P patients."""

    epochs: npt.NDArray[np.int64]
    """Epochs done in each fold, `(K,)`."""
    finished: npt.NDArray[np.bool_]
    """Folds whose scores are final, `(K,)`."""
    scores: Scores
    """Each patient's score in each fold, `(K, P)`: of the best epoch so far, final if the fold is finished; NaN for a
    patient who is not judged in a fold, or not yet."""

    @classmethod
    def before(cls, num_folds: int, num_patients: int) -> Standing:
        """Return the standing of a trial that has done nothing."""
        return cls(
            np.zeros(num_folds, np.int64), np.zeros(num_folds, np.bool_), np.full((num_folds, num_patients), np.nan)
        )


def standing_after(standing: Standing, reports: Sequence[FoldReport]) -> Standing:
    """Return a trial's standing after some of its folds have reported."""
    epochs, finished, scores = standing.epochs.copy(), standing.finished.copy(), standing.scores.copy()
    for report in reports:
        epochs[report.fold] = max(epochs[report.fold], report.epoch + 1)
        finished[report.fold] |= report.finished
        if report.patient_scores is not None:
            scores[report.fold] = report.patient_scores
    return Standing(epochs, finished, scores)


def fair_value(standing: Standing, best: Standing | None) -> float:
    """Return what a trial's criterion would be if its other folds were as they are for the best complete trial.

    It is the criterion of its finished folds, plus what the best trial's criterion over all folds is above the one over
    these folds, within [0, 1] as all criteria are. If no fold is finished, those count that have a score.

    Returns:
        Without a best trial, its own criterion; without any score, NaN.
    """
    folds = standing.finished if standing.finished.any() else ~np.isnan(standing.scores).all(axis=1)
    value = criterion(standing.scores[folds])
    if best is None:
        return value
    return float(np.clip(value + criterion(best.scores) - criterion(best.scores[folds]), 0.0, 1.0))


def patient_means(scores: Scores) -> Scores:
    """Return each patient's mean `(P,)` over the folds `(F, P)` that judge them; NaN if none does."""
    judged = ~np.isnan(scores)
    number = judged.sum(axis=0)
    sums = np.where(judged, scores, 0.0).sum(axis=0)
    return np.divide(sums, number, out=np.full(scores.shape[1], np.nan), where=number > 0)
