"""Intervals and corrections from drawing patients again: the cluster bootstrap, and the draws of BBC-CV."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eus_ray.analysis.statistics import bootstrap, validation
from eus_ray.analysis.statistics.bootstrap import DRAWS, SEED

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A statistic and its percentile interval."""

    value: float
    low: float
    high: float


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


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws: must be at least 1, not {draws}")
