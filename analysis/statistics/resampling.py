"""Intervals and corrections from drawing patients again: the cluster bootstrap and BBC-CV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from eus_ray.analysis.statistics import bootstrap, validation
from eus_ray.analysis.statistics.bootstrap import DRAWS, SEED
from eus_ray.analysis.statistics.validation import Floats

Counts = npt.NDArray[np.int64]
Score = Callable[[Floats, Counts], npt.ArrayLike]
"""Scores `(c,)` of values `(N, c)` whose rows count as often as weights `(N,)` say, 0 times too; NaN for no score."""

_TIE = 1e-12
"""Scores that differ by less than this part of the largest are equal: sums of the same numbers round differently."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and its percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bbc:
    """How good the best of several configurations is, once chosen."""

    estimate: float
    """The winner's score on rows that it was not chosen by."""
    low: float
    """The 95 % interval of the estimate."""
    high: float
    naive: float
    """The winner's score on all rows: too good, because it was chosen for it."""
    bias: float
    """naive - estimate: above 0 where higher is better, below 0 where lower is."""
    winner: int | None
    """The configuration with the best score on all rows; none where the score of all rows is not known."""


def patient_bootstrap(
    values: npt.ArrayLike,
    patients: npt.ArrayLike,
    folds: npt.ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = 0.95,
) -> Estimate:
    """The mean of per-image values `(N,)`, and its interval when patients `(N,)` are drawn again.

    As many patients as there are are drawn with replacement, and all images of a drawn patient come along, twice where
    he is drawn twice; the limits are percentiles of the drawn means, linear between draws. With `folds` `(N,)`,
    integers, the statistic is the mean of fold means and patients are drawn within their folds. For two models, hand
    over the differences of their paired values. An interval to publish needs 2000 draws.

    NaN values are left out (an image without an AUC); no known values give NaN. Raises `ValueError` for different
    lengths, infinite values, folds that are no integers, fewer than one draw, and a level outside (0, 1).
    """
    array = np.asarray(values, dtype=np.float64)
    who = np.asarray(patients)
    where = np.zeros(array.shape, np.int64) if folds is None else np.asarray(folds)
    if array.ndim != 1 or not array.shape == who.shape == where.shape:
        raise ValueError(
            "values, patients and folds must have one dimension and one length, "
            f"not {array.shape}, {who.shape}, {where.shape}"
        )
    if np.isinf(array).any():
        raise ValueError("values: holds infinite values")
    if where.size and where.dtype.kind not in "iu":
        raise ValueError(f"folds: must be integers, not {where.dtype}")
    _check_draws(draws)
    validation.inside(level, "level", 0, 1)
    column = array[:, None]
    value = bootstrap.mean_of_fold_means(bootstrap.fold_means(column, where))
    low, high = bootstrap.interval(bootstrap.bootstrap(column, who, where, draws, seed), level)
    return Estimate(float(value[0]), float(low[0]), float(high[0]))


def draw_patients(number: int, draws: int, rng: np.random.Generator) -> Counts:
    """How often each of `number` patients is drawn, `(draws, number)`, with replacement and as many as there are.

    A draw that leaves no patient out is drawn again. Raises `ValueError` for fewer than two patients, of whom none
    would ever be left out.
    """
    if number < 2:
        raise ValueError(f"{number} patients cannot be divided into drawn ones and others")
    drawn = np.empty((0, number), np.int64)
    while len(drawn) < draws:
        more = rng.multinomial(number, np.full(number, 1 / number), size=draws - len(drawn))
        drawn = np.concatenate([drawn, more[(more == 0).any(axis=1)]])
    return drawn


def _mean(values: Floats, weights: Counts) -> Floats:
    """The mean `(c,)` of values `(N, c)` over rows that count as often as `weights` `(N,)` say."""
    return weights @ values / weights.sum()


def bbc_cv(
    scores: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    better: Literal["higher", "lower"] = "higher",
    draws: int = DRAWS,
    seed: int = SEED,
    score: Score | None = None,
) -> Bbc:
    """Bootstrap bias corrected cross-validation of C configurations (Tsamardinos and others, Mach. Learn. 107, 2018).

    scores: `(N, C)`, each row predicted by models that were not trained on it. Of pruned configurations there are no
        complete columns: leave them out, and say how many are left.
    patients: `(N,)`, where rows cluster; whole patients are drawn then.
    better: whether the higher or the lower score wins.
    score: the score over rows, the mean unless given. A pooled one is computed anew on the rows that count:
        `score(values (N, c), weights (N,)) -> (c,)`. For an AUC, `values` are the cases' predictions, and
        `np.repeat(values[:, 0], weights)` those that count.

    For each draw with replacement the winner is the configuration with the best score on the drawn rows, as often as
    drawn, the first on ties; it is judged on the rows not drawn. A draw that leaves none, or whose score is NaN on
    either side (an AUC of one class), is drawn again. The estimate is the mean over draws, the interval their 2.5 and
    97.5 percentiles, linear between draws. Nothing is trained. To publish take at least 1000 draws.

    With one row (or patient), or where so many draws in a row as were asked for give no score, the estimate is NaN.
    Raises `ValueError` for another rank, no rows or configurations, different lengths, NaN and infinite values, a
    score of another shape or an infinite one, and fewer than one draw.
    """
    values = validation.table(scores, "scores")
    if not len(values):
        raise ValueError("scores: has no rows")
    if better not in ("higher", "lower"):
        raise ValueError(f"better: must be higher or lower, not {better!r}")
    _check_draws(draws)
    clusters = np.arange(len(values))
    if patients is not None:
        who = np.asarray(patients)
        if who.shape != clusters.shape:
            raise ValueError(f"patients: must have one name a row, {clusters.shape}, not {who.shape}")
        clusters = np.unique(who, return_inverse=True)[1]
    judge = _mean if score is None else score

    everywhere = _scores(judge, values, np.ones(len(values), np.int64))
    if np.isnan(everywhere).any():
        return Bbc(np.nan, np.nan, np.nan, np.nan, np.nan, None)
    winner = _first_best(everywhere, better)
    naive = float(everywhere[winner])
    judged = _judged_outside(judge, values, clusters, better, draws, np.random.default_rng(seed))
    if judged is None:
        return Bbc(np.nan, np.nan, np.nan, naive, np.nan, winner)
    low, high = bootstrap.interval(judged[:, None])
    estimate = float(judged.mean())
    return Bbc(estimate, float(low[0]), float(high[0]), naive, naive - estimate, winner)


def _judged_outside(
    judge: Score,
    values: Floats,
    clusters: npt.NDArray[np.intp],
    better: str,
    draws: int,
    rng: np.random.Generator,
) -> Floats | None:
    """Each draw's winner's score on the rows not drawn, `(draws,)`; None where no draw gives one."""
    number = int(clusters.max()) + 1
    if number < 2:
        return None
    judged: list[float] = []
    in_vain = 0
    while len(judged) < draws:
        weights = draw_patients(number, 1, rng)[0][clusters]
        inside = _scores(judge, values, weights)
        outside = np.nan
        if not np.isnan(inside).any():
            chosen = _first_best(inside, better)
            outside = float(_scores(judge, values[:, [chosen]], (weights == 0).astype(np.int64))[0])
        if not np.isnan(outside):
            judged.append(outside)
            in_vain = 0
        elif (in_vain := in_vain + 1) >= max(draws, 1000):
            return None
    return np.array(judged)


def _scores(judge: Score, values: Floats, weights: Counts) -> Floats:
    found = np.asarray(judge(values, weights), dtype=np.float64)
    if found.shape != values.shape[1:]:
        raise ValueError(f"score: must give {values.shape[1:]} numbers for values {values.shape}, not {found.shape}")
    if np.isinf(found).any():
        raise ValueError("score: gave an infinite value")
    return found


def _first_best(found: Floats, better: str) -> int:
    ordered = found if better == "higher" else -found
    return int(np.argmax(ordered >= ordered.max() - _TIE * np.abs(ordered).max()))


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws: must be at least 1, not {draws}")
