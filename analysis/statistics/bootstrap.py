"""A model's mean over folds, with intervals that respect patients.

Images of one patient are not independent, so patients are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.measures.image_metrics import DISTANCES

Average = Literal["patients", "images"]
"""What a fold's mean is taken over: patients, each with the mean over their images, or images as in the paper."""
DRAWS = 2000
SEED = 0
FEWEST_PATIENTS = 10
"""With fewer, a stratum's mean gets no interval and is marked, and that of fold means is said to be too short. A
percentile interval of n normal values covers what Student's t with n - 1 degrees of freedom has within
±1.96 √((n - 1)/n): instead of 95 %, 90 % at 10 patients, 85 % at 5."""
FEWEST_IN_A_FOLD = 3
"""With fewer in a fold, the interval of a mean of fold means is said to be too short. By the same formula, n patients
in each of five folds: 86 % at 3, 78 % at 2."""


def at_diagonal(images: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with images' `diagonal` in place of infinite distances.

    Means, differences, intervals and paired tests take these: a mean of the finite distances alone improves as a model
    misses more lesions. Only rank tests between independent groups may use the infinities.

    Raises:
        ValueError: If a diagonal is missing that is needed.
    """
    infinite = [name for name in DISTANCES if name in images and np.isinf(images[name]).any()]
    unbounded = np.isinf(images[infinite].to_numpy(np.float64)).any(axis=1)
    if infinite and ("diagonal" not in images or images["diagonal"].isna().to_numpy()[unbounded].any()):
        raise ValueError(f"{', '.join(infinite)}: infinite values need the images' diagonal")
    return images.assign(**{name: images[name].where(~np.isinf(images[name]), images["diagonal"]) for name in infinite})


def rows_to_average(images: pd.DataFrame, metrics: Sequence[str], average: Average) -> pd.DataFrame:
    """Return the rows of which a model's mean over folds is the mean: its patients, or its images.

    Args:
        images: One model's rows with `patient_id, fold, diagonal` and metrics.
        metrics: Which metrics.
        average: What a fold's mean is taken over.

    Returns:
        `patient_id, fold` and the metrics, with the diagonal for infinite distances. A patient's value is the mean over
        their images that have one; NaN if none has.
    """
    rows = at_diagonal(images)[["patient_id", "fold", *metrics]]
    if average == "images":
        return rows
    return rows.groupby(["patient_id", "fold"], sort=False, as_index=False)[list(metrics)].mean()


def fold_means(values: npt.NDArray[np.float64], folds: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return means `(F, M)` of values `(N, M)` in each fold, ascending by fold.

    NaN are left out; a fold of NaN alone is NaN.
    """
    _, index = np.unique(np.asarray(folds), return_inverse=True)
    return divide(*sums(values, index))


def mean_of_fold_means(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the headline `(..., M)` of fold means `(..., F, M)`.

    Folds that are NaN are left out.
    """
    valid = ~np.isnan(means)
    return divide(np.where(valid, means, 0.0).sum(axis=-2), valid.sum(axis=-2).astype(np.float64))


def bootstrap(
    values: npt.NDArray[np.float64],
    patients: npt.ArrayLike,
    folds: npt.ArrayLike,
    draws: int = DRAWS,
    seed: int = SEED,
) -> npt.NDArray[np.float64]:
    """Return means of fold means `(draws, M)`, patients drawn within their folds.

    As many patients as a fold has are drawn with replacement. All images of a drawn patient are included, twice if the
    patient is drawn twice. The draws depend on the seed and on each fold's number and patients, so models tested on the
    same folds are compared on the same draws. With one fold this is the patient-cluster bootstrap of the mean over
    images.

    Args:
        values: `(N, M)`; NaN are left out.
        patients: `(N,)`.
        folds: `(N,)`.
        draws: How often to draw.
        seed: Seeds the draws.
    """
    patients, folds = np.asarray(patients), np.asarray(folds)
    by_fold = np.empty((draws, len(np.unique(folds)), values.shape[1]))
    for place, fold in enumerate(np.unique(folds)):
        here = folds == fold
        names, index = np.unique(patients[here], return_inverse=True)
        totals, counts = sums(values[here], index)
        weights = draw_patients(len(names), int(fold), draws, seed)
        by_fold[:, place] = divide(weights @ totals, weights @ counts)
    return mean_of_fold_means(by_fold)


def draw_patients(number: int, fold: int, draws: int = DRAWS, seed: int = SEED) -> npt.NDArray[np.float64]:
    """Return how often each of a fold's patients is drawn, `(draws, number)`.

    As many patients as the fold has are drawn with replacement; columns are sorted by name.
    """
    rng = np.random.default_rng((seed, fold))
    return rng.multinomial(number, np.full(number, 1 / number), size=draws).astype(np.float64)


def has_interval(patients: npt.ArrayLike, folds: npt.ArrayLike) -> bool:
    """Return whether patients drawn within their folds say how sure a mean is.

    Each fold must have two patients at least: the only patient of a fold is always drawn, and the interval has no
    width.

    Args:
        patients: `(N,)` of images.
        folds: `(N,)` of images.
    """
    return int(patients_in_folds(patients, folds).min()) > 1


def patients_in_folds(patients: npt.ArrayLike, folds: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return how many different patients each fold has `(F,)`, ascending by fold."""
    pairs = pd.DataFrame({"patient": np.asarray(patients), "fold": np.asarray(folds)})
    return np.asarray(pairs.groupby("fold")["patient"].nunique(), dtype=np.int64)


def interval(drawn: npt.NDArray[np.float64], level: float = 0.95) -> tuple[npt.NDArray[np.float64], ...]:
    """Return percentile limits `(M,)`, `(M,)` of statistics `(draws, M)`.

    They are linear between draws; NaN draws are left out.
    """
    limits = np.full((2, drawn.shape[1]), np.nan)
    for column in range(drawn.shape[1]):
        known = drawn[~np.isnan(drawn[:, column]), column]
        if known.size:
            limits[:, column] = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return limits[0], limits[1]


def sums(
    values: npt.NDArray[np.float64], index: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return sums and numbers `(G, M)` of the known values `(N, M)` of each group.

    `index`: the group `(N,)` of each row, from 0 to G - 1.
    """
    groups = int(index.max()) + 1 if index.size else 0
    known = ~np.isnan(values)
    totals, counts = np.zeros((groups, values.shape[1])), np.zeros((groups, values.shape[1]))
    np.add.at(totals, index, np.where(known, values, 0.0))
    np.add.at(counts, index, known)
    return totals, counts


def divide(totals: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return totals by counts; NaN where a count is 0."""
    return np.divide(totals, counts, out=np.full(np.shape(totals), np.nan), where=counts > 0)
