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
    """Return the mean of per-image values, with its interval over drawn patients.

    As many patients as there are are drawn with replacement. All images of a drawn patient are included, twice if the
    patient is drawn twice. The limits are percentiles of the drawn means, linear between draws.

    Args:
        values: `(N,)`; NaN are left out (an image without an AUC). For two models, the differences of their paired
            values.
        patients: `(N,)`.
        folds: `(N,)`, integers. With them the statistic is the mean of fold means, and patients are drawn within folds.
        draws: How often to draw; an interval to publish needs 2000.
        seed: Seeds the draws.
        level: That of the interval.

    Returns:
        NaN without known values.

    Raises:
        ValueError: For different lengths, infinite values, folds that are no integers, fewer than one draw, and a level
            outside (0, 1).
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
    if draws < 1:
        raise ValueError(f"draws: must be at least 1, not {draws}")
    validation.inside(level, "level", 0, 1)
    column = array[:, None]
    value = bootstrap.mean_of_fold_means(bootstrap.fold_means(column, where))
    low, high = bootstrap.interval(bootstrap.bootstrap(column, who, where, draws, seed), level)
    return Estimate(float(value[0]), float(low[0]), float(high[0]))


def draw_patients(number: int, draws: int, rng: np.random.Generator) -> Counts:
    """Return how often each of `number` patients is drawn, `(draws, number)`.

    As many as there are are drawn with replacement. A draw that leaves no patient out is repeated.

    Raises:
        ValueError: For fewer than two patients: none can be left out.
    """
    if number < 2:
        raise ValueError(f"{number} patients cannot be divided into drawn ones and others")
    drawn = np.empty((0, number), np.int64)
    while len(drawn) < draws:
        more = rng.multinomial(number, np.full(number, 1 / number), size=draws - len(drawn))
        drawn = np.concatenate([drawn, more[(more == 0).any(axis=1)]])
    return drawn
