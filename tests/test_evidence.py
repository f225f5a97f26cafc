"""What folds and curves say: against one large normal distribution conditioned by brute force, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from eus_ray.evidence import _SPREADS, LearningCurves, TrialEffects

# ---- trials that have finished different folds --------------------------------------------------


def precision(covariance: np.ndarray, known: np.ndarray) -> np.ndarray:
    inverse = np.zeros_like(covariance)
    inverse[np.ix_(known, known)] = np.linalg.inv(covariance[np.ix_(known, known)])
    return inverse


def brute_force(covariances: list[np.ndarray], known: np.ndarray, scores: np.ndarray, leader: int) -> tuple[float, float]:
    """How far the last trial is behind `leader`, and P(as good): all scores, levels and effects as one normal."""
    num_trials, folds = known.shape
    seen = [(trial, fold) for trial in range(num_trials) for fold in range(folds) if known[trial, fold]]
    y = np.array([scores[cell] for cell in seen])
    contrast = np.zeros(num_trials)
    contrast[[leader, -1]] = 1, -1
    flat = 1e4  # the variance of a level of which nothing is known
    logs, leads, chances = [], [], []
    for spread in _SPREADS:
        among = np.zeros((len(seen), len(seen)))
        effect = np.zeros((num_trials, len(seen)))
        for row, (trial, fold) in enumerate(seen):
            effect[trial, row] = spread**2
            for column, (other, second) in enumerate(seen):
                among[row, column] = (trial == other) * (spread**2 + covariances[trial][fold, second]) + (
                    fold == second
                ) * flat
        gain = contrast @ effect @ np.linalg.inv(among)
        lead = gain @ y
        variance = 2 * spread**2 - gain @ effect.T @ contrast
        logs.append(multivariate_normal.logpdf(y, cov=among, allow_singular=True))
        leads.append(lead)
        chances.append(norm.cdf(-lead / np.sqrt(variance)))
    weights = np.exp(np.array(logs) - logsumexp(logs))
    return float(weights @ leads), float(weights @ chances)


@pytest.mark.parametrize("seed", range(4))
def test_trials_are_compared_as_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 1, 0]], dtype=bool)
    root = rng.normal(size=(3, 3)) * 0.02
    noise = root @ root.T + 0.02**2 * np.eye(3)
    last = noise + np.diag([0.0, 0.03**2, 0.0])  # its second fold is a forecast
    scores = rng.normal(0.7, 0.05, known.shape)
    covariances = [noise] * 4 + [last]
    precisions = np.array([precision(each, mine) for each, mine in zip(covariances, known, strict=True)])
    effects = TrialEffects(precisions[:4], np.where(known[:4], scores[:4], 0))
    for leader in range(4):
        found = effects.compare(precisions[4], np.where(known[4], scores[4], 0), [leader])
        assert found[0] == leader
        assert found[1:] == pytest.approx(brute_force(covariances, known, scores, leader), abs=2e-4)


def test_the_best_of_those_who_may_lead_leads() -> None:
    precisions = np.array([np.eye(2)] * 3) / 0.02**2
    effects = TrialEffects(precisions, np.array([[0.7, 0.6], [0.8, 0.7], [0.75, 0.65]]))
    mine = np.diag([1, 0]) / 0.02**2
    assert effects.compare(mine, np.array([0.7, 0.0]), [0, 1, 2])[0] == 1
    assert effects.compare(mine, np.array([0.7, 0.0]), [0, 2])[0] == 2


def test_an_easy_fold_is_no_merit() -> None:
    """Fold 0 is easy: .8 there is behind the leader's .9, though above its mean of .75."""
    precisions = np.array([np.eye(2)] * 2) / 0.01**2
    effects = TrialEffects(precisions, np.array([[0.9, 0.6], [0.85, 0.55]]))
    _, lead, chance = effects.compare(np.diag([1, 0]) / 0.01**2, np.array([0.8, 0.0]), [0])
    assert 0.06 < lead < 0.1 and chance < 0.01


def test_trials_that_hardly_differ_are_drawn_together() -> None:
    """The same distance says less where all other trials lie close together than where they are spread."""
    rng = np.random.default_rng(0)
    noise = 0.03
    chances = []
    for spread in (0.0, 0.06):
        scores = 0.7 + spread * rng.normal(size=(30, 1)) + noise * rng.normal(size=(30, 3))
        scores[0] = scores[:, :].max()
        effects = TrialEffects(np.array([np.eye(3)] * 30) / noise**2, scores)
        mine = scores[0] - [0.08, 0, 0]
        chances.append(effects.compare(np.diag([1, 0, 0]) / noise**2, mine * [1, 0, 0], [0])[2])
    assert chances[0] > 2 * chances[1]


# ---- learning curves ----------------------------------------------------------------------------


def ramps(rates: list[float], epochs: int = 8) -> np.ndarray:
    return np.outer(rates, np.arange(1, epochs + 1))


def test_gains_follow_slopes() -> None:
    """Ramps of r an epoch: at epoch 4 the level is 3.5 r, the slope 1.5 r, the final score 8 r, so the gain 3 slopes."""
    rates = [0.02, 0.04, 0.06, 0.08, 0.09, 0.1]
    learning = LearningCurves(np.arange(6), ramps(rates))
    score, variance = learning.forecast(99, ramps([0.07])[0, :4]) or (0, 0)
    assert score == pytest.approx(8 * 0.07, abs=1e-3)
    assert 0 < variance < 1e-5


def test_the_variance_is_that_of_a_line_through_noise() -> None:
    """Flat curves whose last epoch is off by a noise of SD .05: gains around 0, whatever the slope."""
    rng = np.random.default_rng(1)
    curves = np.full((400, 6), 0.7) + rng.normal(0, 1e-4, (400, 6))
    curves[:, -1] += rng.normal(0, 0.05, 400)
    score, variance = LearningCurves(np.arange(400), curves).forecast(999, curves[0, :4]) or (0, 0)
    assert score == pytest.approx(0.7, abs=0.01)
    assert variance == pytest.approx(0.05**2, rel=0.15)


def test_a_trial_gains_what_it_has_gained_in_its_own_folds() -> None:
    """It learns late: at epoch 4 it looks like the others, who stay where they are, and ends .2 higher each time."""
    curves = np.full((10, 8), 0.6)
    curves[8:, 4:] += 0.2
    trials = np.array([0, 0, 1, 1, 2, 2, 3, 3, 9, 9])
    learning = LearningCurves(trials, curves)
    assert (learning.forecast(9, np.full(4, 0.65)) or (0, 0))[0] == pytest.approx(0.85)
    assert (learning.forecast(0, np.full(4, 0.65)) or (0, 0))[0] == pytest.approx(0.65)


def test_each_trial_counts_once() -> None:
    """One trial with five folds that gain .1, five with a fold that gains nothing: on average .1 / 6."""
    curves = np.full((10, 8), 0.6)
    curves[:5, -1] += 0.1
    learning = LearningCurves(np.array([0] * 5 + [1, 2, 3, 4, 5]), curves)
    assert (learning.forecast(9, np.full(4, 0.6)) or (0, 0))[0] == pytest.approx(0.6 + 0.1 / 6)


def test_too_few_folds_say_nothing() -> None:
    assert LearningCurves(np.array([], dtype=np.int64), np.empty((0, 8))).forecast(0, np.full(4, 0.5)) is None
    five = LearningCurves(np.arange(5), ramps([0.1] * 5))
    assert five.forecast(9, np.full(4, 0.5)) is None
    assert five.forecast(0, np.full(4, 0.5)) is None, "no trial has shown that it repeats its curve"
    six = LearningCurves(np.arange(6), ramps([0.1] * 6))
    assert six.forecast(9, np.full(1, 0.5)) is None, "one epoch has no slope"
    assert six.forecast(9, np.array([0.5, np.nan, 0.5])) is None
    assert six.forecast(9, np.full(4, 0.5)) is not None
