"""Which trial of a search is stopped before its end: the rules, told how every trial stands and nothing else.

A rule hears each trial's `Standing` after every step and is asked whether to stop that trial. It knows no
Ray, no files and no clock, so that a search that runs, one that is resumed and one that is replayed from
its tables take the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from eus_ray.config import SearchSettings, UserError, nearest
from eus_ray.evidence import LearningCurves, TrialEffects
from eus_ray.scores import criterion

Scores = npt.NDArray[np.float64]

FORECAST_SHARE = 0.2
"""Of racing's level, how much there is where an unfinished fold's forecast takes part."""


@dataclass(frozen=True)
class Standing:
    """How far a trial is, over K folds and P patients: all that a rule may look at."""

    epochs: npt.NDArray[np.int64]
    """Epochs done in each fold, `(K,)`."""
    finished: npt.NDArray[np.bool_]
    """Folds whose scores are final, `(K,)`."""
    scores: Scores
    """Each judged patient's score in each fold, `(K, P)`: of the best epoch so far, final where the fold is
    finished; NaN where a patient is not judged in a fold, or not yet."""


class Rule(Protocol):
    """Decides which trials of one search are stopped. A trial that must not be stopped is not asked about."""

    order: Literal["by_fold", "abreast"]
    """How trials train under this rule."""

    def hear(self, trial: int, standing: Standing) -> None:
        """Take in how a trial stands, after each of its steps."""
        ...

    def stops(self, trial: int) -> str | None:
        """The reason to stop a running trial now; None to let it go on. Never raises."""
        ...

    def ended(self, trial: int, state: str) -> None:
        """Take in that a trial is over: `complete`, `pruned` or `failed`."""
        ...


def make_rule(settings: SearchSettings, folds: int, epochs: int) -> Rule:
    """The rule of a search over so many folds of so many epochs."""
    if settings.scheduler == "racing":
        return Racing(settings.racing_alpha, folds, epochs)
    if settings.scheduler == "asha":
        return Asha(settings.asha_reduction, min(settings.asha_grace, epochs), epochs)
    return Never()


ARGUMENTS = {"racing": ("racing_alpha",), "asha": ("asha_reduction", "asha_grace"), "none": ()}
"""What may follow a rule's name, separated by colons, as fields of `[search]`."""


def parse_rule(text: str, folds: int, epochs: int) -> Rule:
    """A rule as it is written on the command line: `racing:0.05`, `asha:3`, `asha:3:5`, `none`.

    What is left out has the default of `[search]`. Raises `UserError`.
    """
    name, *given = text.split(":")
    if name not in ARGUMENTS:
        raise UserError(f"--rule {text}: no such rule{nearest(name, ARGUMENTS)}")
    fields = ARGUMENTS[name]
    if len(given) > len(fields):
        takes = "nothing" if not fields else " and ".join(f"search.{field}" for field in fields)
        raise UserError(f"--rule {text}: {name} takes {takes} after its name")
    try:
        settings = SearchSettings(scheduler=name, **dict(zip(fields, given, strict=False)))  # type: ignore[arg-type]
    except ValidationError as error:
        said = [f"{problem['loc'][-1]}: {problem['msg']}, not {problem['input']!r}" for problem in error.errors()]
        raise UserError(*(f"--rule {text}: search.{line}" for line in said)) from None
    return make_rule(settings, folds, epochs)


def fair_value(standing: Standing, best: Standing | None) -> float:
    """What a trial's criterion would be if its other folds were as they are for the best complete trial.

    The criterion of its finished folds, plus what the best trial's criterion over all folds is above the
    one over these folds. Where no fold is finished, those count that have a score. Without a best trial:
    its own criterion; without any score: NaN.
    """
    folds = standing.finished if standing.finished.any() else ~np.isnan(standing.scores).all(axis=1)
    value = criterion(standing.scores[folds])
    return value if best is None else value + criterion(best.scores) - criterion(best.scores[folds])


class Never:
    """Stops nothing."""

    order: Literal["by_fold", "abreast"] = "by_fold"

    def hear(self, trial: int, standing: Standing) -> None:
        return None

    def stops(self, trial: int) -> str | None:
        return None

    def ended(self, trial: int, state: str) -> None:
        return None


class Racing:
    """Stops a trial that is plainly worse than the leader: as good with a probability below `alpha`.

    The leader is the best of the running and complete trials that have finished a fold. The probability
    comes from `evidence`. A finished fold shows a final score, and patients pair up in it. Of a fold in
    progress the final score is forecast from the curves of finished folds, once there are enough of them,
    and counts for as much as such forecasts have been worth. Some settings learn late, so a forecast's
    errors have heavier tails than the normal distribution: where one takes part, the probability must be
    below `FORECAST_SHARE * alpha`.

    A running trial is judged again whenever any trial finishes a fold or is stopped, and some 25 times in
    each fold of its own.
    """

    order: Literal["by_fold", "abreast"] = "by_fold"

    def __init__(self, alpha: float, folds: int, epochs: int) -> None:
        self._alpha, self._folds, self._epochs = alpha, folds, epochs
        self._standings: dict[int, Standing] = {}
        self._curves: dict[int, Scores] = {}
        """Each trial's mean over patients after each epoch of each fold, `(K, E)`; NaN where it is not known."""
        self._out: set[int] = set()
        self._changes = 0
        """How often the evidence that is shared by all trials has changed."""
        self._kept: dict[str, tuple[Any, Any]] = {}
        self._asked: dict[int, Any] = {}

    def hear(self, trial: int, standing: Standing) -> None:
        before = self._standings.get(trial)
        self._standings[trial] = standing
        curves = self._curves.setdefault(trial, np.full((self._folds, self._epochs), np.nan))
        for fold in np.flatnonzero(standing.epochs if before is None else standing.epochs != before.epochs):
            judged = ~np.isnan(standing.scores[fold])
            if judged.any():
                curves[fold, standing.epochs[fold] - 1] = standing.scores[fold, judged].mean()
        if standing.finished.any() and (before is None or (standing.finished != before.finished).any()):
            self._changes += 1

    def ended(self, trial: int, state: str) -> None:
        if state != "complete":
            self._out.add(trial)
            self._changes += 1

    def stops(self, trial: int) -> str | None:
        if trial not in self._standings:
            return None
        mine, curves = self._standings[trial], self._curves[trial]
        looked_at = [fold for fold in np.flatnonzero(~mine.finished) if self._looks_at(int(mine.epochs[fold]))]
        about = (self._changes, tuple(mine.epochs[looked_at]))
        if self._asked.get(trial) == about:
            return None
        self._asked[trial] = about
        noise = self._keep("noise", self._changes, self._noise)
        rivals, effects = self._keep("effects", (self._changes, trial), lambda: self._effects(trial, noise))
        leaders = [place for place, rival in enumerate(rivals) if rival not in self._out]
        if not leaders:
            return None
        known, scores, errors = mine.finished.copy(), np.where(mine.finished, curves[:, -1], 0.0), np.zeros(self._folds)
        for fold in looked_at:
            learning = self._keep("learning", self._changes, self._learning)
            forecast = learning.forecast(trial, curves[fold, : mine.epochs[fold]])
            if forecast is not None:
                known[fold], (scores[fold], errors[fold]) = True, forecast
        if not known.any():
            return None
        place, lead, chance = effects.compare(_precision(noise + np.diag(errors), known), scores, leaders)
        forecasts = [f"{mine.epochs[fold]} epochs of another" for fold in np.flatnonzero(known & ~mine.finished)]
        if chance >= self._alpha * (FORECAST_SHARE if forecasts else 1):
            return None
        seen = [_folds(int(mine.finished.sum()))] * bool(mine.finished.any()) + forecasts
        return f"plainly worse than trial {rivals[place]} by {' and '.join(seen)}: {lead:.3f} behind (p = {_short(chance)})"

    def _looks_at(self, epochs: int) -> bool:
        """Whether a fold in progress is looked at after so many epochs."""
        return epochs >= max(2, self._epochs // 5) and epochs % max(1, self._epochs // 25) == 0

    def _keep(self, name: str, about: Any, make: Callable[[], Any]) -> Any:
        """What was last made under a name, while it is about the same; else it is made anew."""
        if name not in self._kept or self._kept[name][0] != about:
            self._kept[name] = about, make()
        return self._kept[name][1]

    def _noise(self) -> Scores | None:
        """The covariance `(K, K)` of the noise in a trial's fold scores; None where it cannot be told yet.

        The noise is of the patients: what is left of their scores beside each patient's and each trial's
        mean in a fold. Folds that judge the same patients err together.
        """
        total, freedom = 0.0, 0
        for fold in range(self._folds):
            scores = np.array([each.scores[fold] for each in self._standings.values() if each.finished[fold]])
            if len(scores) > 1:
                scores = scores[:, ~np.isnan(scores).any(axis=0)]
                rest = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
                total += float((rest**2).sum())
                freedom += (scores.shape[0] - 1) * (scores.shape[1] - 1)
        if freedom < 3 or total == 0:
            return None
        judged = np.any([~np.isnan(each.scores) for each in self._standings.values()], axis=0).astype(float)
        number = np.maximum(judged.sum(axis=1), 1)
        shared = judged @ judged.T / np.outer(number, number)
        # no fold's noise is exactly another's; one that nobody judged yet has some too
        return total / (freedom - 2) * (shared + np.diag(np.where(judged.any(axis=1), 1e-9, 1.0)))

    def _effects(self, trial: int, noise: Scores | None) -> tuple[list[int], TrialEffects | None]:
        """The other trials with a finished fold, and what they tell; nobody where the noise is not known."""
        rivals = [other for other, each in self._standings.items() if other != trial and each.finished.any()]
        if noise is None or not rivals:
            return [], None
        finished = np.array([self._standings[rival].finished for rival in rivals])
        scores = np.where(finished, [self._curves[rival][:, -1] for rival in rivals], 0.0)
        return rivals, TrialEffects(np.array([_precision(noise, known) for known in finished]), scores)

    def _learning(self) -> LearningCurves:
        whole = [
            (trial, curve)
            for trial, standing in self._standings.items()
            for curve in self._curves[trial][standing.finished]
            if not np.isnan(curve).any()
        ]
        curves = np.array([curve for _, curve in whole]).reshape(len(whole), self._epochs)
        return LearningCurves(np.array([trial for trial, _ in whole], dtype=np.int64), curves)


def _precision(covariance: Scores, known: npt.NDArray[np.bool_]) -> Scores:
    """The inverse of the known folds' covariance `(K, K)`, 0 elsewhere."""
    precision = np.zeros_like(covariance)
    precision[np.ix_(known, known)] = np.linalg.inv(covariance[np.ix_(known, known)])
    return precision


def _folds(number: int) -> str:
    return "1 fold" if number == 1 else f"{number} folds"


def _short(p_value: float) -> str:
    """A probability as it is printed: `.012`, `< .001` as `.000`."""
    return f"{p_value:.3f}".removeprefix("0")


class Asha:
    """Asynchronous successive halving on epochs, all folds abreast: Ray Tune's own, fed with the criterion.

    At each rung, `grace * reduction ** n` epochs, a trial goes on only among the best 1 / `reduction` of
    those that have come there so far.
    """

    order: Literal["by_fold", "abreast"] = "abreast"

    def __init__(self, reduction: int, grace: int, epochs: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler  # takes a second, and only this rule needs it

        self._epochs = epochs
        self._scheduler = AsyncHyperBandScheduler(
            "epoch", "score", "max", max_t=epochs, grace_period=grace, reduction_factor=reduction
        )
        self._trials: dict[int, Any] = {}
        self._heard: dict[int, dict[str, float]] = {}
        self._stopped: dict[int, str] = {}

    def hear(self, trial: int, standing: Standing) -> None:
        epoch = int(standing.epochs.min())
        if epoch == 0 or epoch <= self._heard.get(trial, {"epoch": 0})["epoch"]:
            return
        if trial not in self._trials:
            self._trials[trial] = SimpleNamespace(trial_id=str(trial))
            self._scheduler.on_trial_add(None, self._trials[trial])  # type: ignore[arg-type]
        result = {"epoch": epoch, "score": criterion(standing.scores)}
        self._heard[trial] = result
        decision = self._scheduler.on_trial_result(None, self._trials[trial], result)  # type: ignore[arg-type]
        if decision == self._scheduler.STOP and epoch < self._epochs:
            self._stopped[trial] = f"behind the best at epoch {epoch} (score {result['score']:.4f})"

    def stops(self, trial: int) -> str | None:
        return self._stopped.get(trial)

    def ended(self, trial: int, state: str) -> None:
        if state == "complete" and trial in self._trials:
            self._scheduler.on_trial_complete(None, self._trials[trial], self._heard[trial])  # type: ignore[arg-type]
