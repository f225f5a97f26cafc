"""How likely an unfinished trial is as good as another: what its folds show, and what its curves promise.

Two models, both fitted to the search's own trials and to nothing else. `TrialEffects` compares trials that
have finished different folds; `LearningCurves` says what an unfinished fold will have at its end, and how
far off that may be. NumPy only.
"""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SPREADS = np.geomspace(0.004, 0.3, 12)
"""Standard deviations of the trials' true scores that are thought possible, all equally likely beforehand."""
_LEAST_TRIALS = 6
"""Trials with a finished fold before their curves say anything about another trial's."""
_LEAST_REPEATS = 3
"""Finished folds beyond each trial's first before trials are known to repeat their own curves."""
_WEAK_SLOPE = 1e-4
"""Sum of squares that slopes must exceed before gains follow them."""


class TrialEffects:
    """Which of several trials is best, when they have finished different folds.

    A trial's score in a fold is the fold's level, plus the trial's effect, plus noise. Levels are free.
    Effects are normal with a spread that the trials themselves tell (an average over `_SPREADS`, weighted by
    restricted likelihood). The noise of a trial has a known precision matrix. So every trial helps to tell
    how hard a fold is, a leader counts with all its folds, and trials that hardly differ are drawn together:
    luck alone stops nobody.
    """

    def __init__(self, precisions: Floats, scores: Floats) -> None:
        """T trials' precision matrices `(T, K, K)`, 0 where a fold is not known, and scores `(T, K)`."""
        self._trials = _Trials(precisions, scores)

    def compare(self, precision: Floats, scores: Floats, leaders: list[int]) -> tuple[int, float, float]:
        """The best of `leaders`, how far one more trial is behind it, and the probability that it is as good.

        That trial has a precision `(K, K)` and scores `(K,)` of its own; leaders are places among the T.
        """
        others, mine = self._trials, _Trials(precision[None], scores[None])
        # 1e-9: a fold that no trial knows has no information at all
        information = others.information + mine.information + 1e-9 * np.eye(len(scores))
        target = others.target + mine.target
        covariance = np.linalg.inv(information)
        levels = np.einsum("gkl,gl->gk", covariance, target)
        fit = others.fit + mine.fit + (target * levels).sum(axis=1) - np.linalg.slogdet(information)[1]
        weights = np.exp(0.5 * (fit - fit.max()))
        weights /= weights.sum()
        effects = others.effects(levels)
        leader = leaders[int(np.argmax((weights @ effects)[leaders]))]
        lead = effects[:, leader] - mine.effects(levels)[:, 0]
        pull = others.pull(leader) - mine.pull(0)
        variance = others.variances[:, leader] + mine.variances[:, 0]
        variance += np.einsum("gk,gkl,gl->g", pull, covariance, pull)
        chances = [0.5 * erfc(each / sqrt(2.0)) for each in lead / np.sqrt(variance)]
        return leader, float(weights @ lead), float(weights @ chances)


class _Trials:
    """What T trials say of the G spreads and the K levels; what two groups say is the sum."""

    def __init__(self, precisions: Floats, scores: Floats) -> None:
        weighted = np.einsum("tkl,tl->tk", precisions, scores)
        self._weights, self._sums = precisions.sum(axis=2), weighted.sum(axis=1)
        prior = _SPREADS[:, None] ** -2
        self.variances = 1 / (self._weights.sum(axis=1) + prior)
        """Of each effect where the levels are known, `(G, T)`."""
        spread = self._weights.T * self.variances[:, None, :]
        self.information = precisions.sum(axis=0) - spread @ self._weights
        """About the levels, `(G, K, K)`."""
        self.target = weighted.sum(axis=0) - (self._sums * self.variances) @ self._weights
        self.fit = (np.log(self.variances * prior) + self._sums**2 * self.variances).sum(axis=1)
        """Twice the log likelihood, but for what the levels explain, `(G,)`."""

    def effects(self, levels: Floats) -> Floats:
        """Expected effects `(G, T)` where the levels are `(G, K)`."""
        return (self._sums - levels @ self._weights.T) * self.variances

    def pull(self, trial: int) -> Floats:
        """How far each level moves a trial's effect, `(G, K)`."""
        return self._weights[trial] * self.variances[:, trial, None]


class LearningCurves:
    """What a fold's score will be at its end, from the curves of finished folds.

    At each epoch: the level is the mean over the later half of the epochs so far, the slope is that minus
    the same as of half the epochs, and the gain is the final score minus the level. Gains follow slopes in a
    straight line, fitted over the finished folds (each trial counting once); a trial that has finished folds
    of its own gains what it has gained there. How far off such forecasts are is seen in the same folds.
    """

    def __init__(self, trials: npt.NDArray[np.int64], curves: Floats) -> None:
        """Of D finished folds: whose they are `(D,)`, and their score after each epoch `(D, E)`."""
        self._trials = trials
        _, place, folds = np.unique(trials, return_inverse=True, return_counts=True)
        self._number, self._repeats = len(folds), len(trials) - len(folds)
        if self._number < 2:
            return
        level, slope = _level_and_slope(curves)
        gain = curves[:, -1:] - level
        weight = (1 / folds[place])[:, None]
        self._mean_slope, self._mean_gain = (
            (weight * slope).sum(0) / self._number,
            (weight * gain).sum(0) / self._number,
        )
        away = slope - self._mean_slope
        self._spread = (weight * away**2).sum(axis=0) + _WEAK_SLOPE
        self._rate = (weight * away * (gain - self._mean_gain)).sum(axis=0) / self._spread
        self._rest = gain - self._mean_gain - self._rate * away
        own = np.zeros((self._number, curves.shape[1]))
        np.add.at(own, place, self._rest * weight)
        self._between = (weight * self._rest**2).sum(axis=0)
        self._within = ((self._rest - own[place]) ** 2).sum(axis=0)

    def forecast(self, trial: int, so_far: Floats) -> tuple[float, float] | None:
        """The final score of a trial's fold with this curve `(epochs,)`, and the forecast's variance.

        None where too few folds have finished. Variances are widened as Student's t is, for having been
        estimated.
        """
        epoch = len(so_far) - 1
        own = self._trials == trial
        number = int(own.sum())
        if (
            epoch < 1
            or np.isnan(so_far).any()
            or (self._number < _LEAST_TRIALS if number == 0 else self._repeats < _LEAST_REPEATS)
        ):
            return None
        level, slope = (float(values[0, -1]) for values in _level_and_slope(so_far[None]))
        away = slope - self._mean_slope[epoch]
        score = level + self._mean_gain[epoch] + self._rate[epoch] * away
        if number:
            variance = self._within[epoch] / (self._repeats - 2) * (1 + 1 / number)
            return float(score + self._rest[own, epoch].mean()), float(variance)
        variance = self._between[epoch] / (self._number - 4)  # two for the line, two for Student's t
        return float(score), float(variance * (1 + 1 / self._number + away**2 / self._spread[epoch]))


def _level_and_slope(curves: Floats) -> tuple[Floats, Floats]:
    """Level and slope at each epoch of curves `(D, E)`; the slope at the first is 0."""
    sums = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(curves, axis=1)], axis=1)
    epochs = np.arange(1, curves.shape[1] + 1)
    level = (sums[:, epochs] - sums[:, epochs // 2]) / (epochs - epochs // 2)
    return level, level - level[:, np.maximum(epochs // 2, 1) - 1]
