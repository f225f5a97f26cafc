"""Pairwise comparison of models: all tests of two models in one metric.

The test to believe is of the difference of the models' averages: the mean over folds of the mean over their patients,
or images. Patients' differences are flipped, because images of one patient are not independent. An infinite distance
counts as the image's diagonal. A pair is compared on the images that both models have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.comparison.score_matrix import Aligned, Floats
from eus_ray.analysis.labels import ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.statistics import (
    Test,
    Tost,
    bootstrap,
    holm,
    nadeau_bengio,
    sign_flip_tests,
    tost_paired,
    wilcoxon_signed_rank,
)
from eus_ray.config import AnalysisSettings

DECIMALS = 10
"""Differences that agree to so many decimals are equal."""


def margin_of(metric: str, settings: AnalysisSettings) -> float:
    """Return the smallest difference in a metric that matters."""
    return settings.distance_margin if metric in DISTANCES else settings.margin


@dataclass(frozen=True)
class Training:
    """Sizes of test and training sets, for Nadeau and Bengio's n_test / n_train."""

    patients: Mapping[int, int]
    """Number of patients by fold, for all folds of the data, tested or not."""
    held_out: Mapping[str, float]
    """By model: the share of a fold's training patients that are held out for validation (nested estimates)."""

    def test_to_train(self, models: Sequence[str], folds: Sequence[int]) -> float:
        """Return n_test / n_train as means over `folds`; the larger ratio of the models.

        This is 1/(K - 1) for all of K folds without inner validation, and NaN if no patient is left to train on.
        """
        test = sum(self.patients[fold] for fold in folds)
        others = sum(sum(self.patients.values()) - self.patients[fold] for fold in folds)
        train = others * (1 - max(self.held_out.get(model, 0.0) for model in models))
        return test / train if train > 0 else float("nan")


def read_training(patients: pd.DataFrame, kinds: Mapping[str, str], settings: Mapping[str, Any]) -> Training:
    """Return the sizes of test and training sets.

    Args:
        patients: All images of the data, with `patient_id, fold`.
        kinds: Kind of each model.
        settings: The study's settings.
    """
    numbers = patients.groupby("fold")["patient_id"].nunique()
    inner_folds = settings.get("search", {}).get("inner_folds", 5)
    return Training(
        {int(fold): int(number) for fold, number in zip(numbers.index, numbers, strict=True)},
        {model: 1 / inner_folds if kind == ReportKind.NESTED else 0.0 for model, kind in kinds.items()},
    )


@dataclass(frozen=True)
class Comparison:
    """All tests of two models in one metric. Differences are first minus second.

    NaN stands for what too few patients do not give.
    """

    first: str
    second: str
    metric: str
    margin: float
    num_patients: int
    num_images: int
    left_out: int
    """Images that only one of the two has."""
    mean: Test
    """Sign-flip permutation test of the difference of the two averages: the test to believe. Its interval holds the
    differences that it does not reject; infinite with fewer than six patients."""
    p_adjusted: float
    """Its p, adjusted by Holm over the pairs within the metric."""
    sd: float
    """SD of the patients' differences, ddof 1."""
    positive: int
    """Number of patients with a positive difference."""
    negative: int
    ranks: Test
    """Wilcoxon signed rank of the patients' means, as is usual in this field."""
    ranks_p_adjusted: float
    equivalence: Tost
    """TOST of the patients' means, within ± margin."""
    folds: Test
    """Nadeau-Bengio of the folds' mean differences: would other trainings say the same? Not adjusted."""
    images: Test
    """Wilcoxon signed rank of the images, as in the paper; images are not independent."""
    images_p_adjusted: float
    num_tests: int
    """Number of pairs within the metric that could be tested: Holm adjusts for these."""

    @property
    def difference(self) -> float:
        """Return the difference of the two averages; NaN without patients."""
        return self.mean.effect_size

    def favour(self, model: str) -> int:
        """Return how many patients favour one of the two."""
        is_higher_better = self.metric not in DISTANCES
        return self.positive if (model == self.first) == is_higher_better else self.negative

    @property
    def is_constant(self) -> bool:
        """Return whether all patients have the same difference."""
        return not self.sd > 10**-DECIMALS

    @property
    def is_same(self) -> bool:
        """Return whether the two models agree on every patient."""
        return self.num_patients > 1 and self.sd == 0 and abs(self.difference) < 10**-DECIMALS


def compare_pairs(
    aligned: Aligned, training: Training, settings: AnalysisSettings | None = None
) -> tuple[Comparison, ...]:
    """Compare all pairs of models in each metric.

    Args:
        aligned: Scores of all models.
        training: Sizes of test and training sets.
        settings: What is averaged, and equivalence margins.

    Returns:
        Pairs in the order of the models, and metrics within a pair; none for a single model.
    """
    found = [
        pair
        for first, second in combinations(range(len(aligned.models)), 2)
        for pair in _compare(aligned, first, second, training, settings or AnalysisSettings())
    ]
    for metric in aligned.metrics:
        places = [place for place, pair in enumerate(found) if pair.metric == metric]
        p_values = {
            "p_adjusted": [found[place].mean.p_value for place in places],
            "ranks_p_adjusted": [found[place].ranks.p_value for place in places],
            "images_p_adjusted": [found[place].images.p_value for place in places],
        }
        adjusted = pd.DataFrame({name: holm(values) for name, values in p_values.items()}, dtype=np.float64)
        num_tests = int(adjusted["p_adjusted"].notna().sum())
        for place, row in zip(places, adjusted.to_dict("records"), strict=True):
            found[place] = replace(found[place], num_tests=num_tests, **{str(name): row[name] for name in p_values})
    return tuple(found)


def _compare(
    aligned: Aligned, first: int, second: int, training: Training, settings: AnalysisSettings
) -> list[Comparison]:
    """Compare two models in all metrics, without adjustment for the number of pairs."""
    both = aligned.predicted[:, first] & aligned.predicted[:, second]
    either = aligned.predicted[:, first] | aligned.predicted[:, second]
    known = ~(np.isnan(aligned.bounded[:, first]) | np.isnan(aligned.bounded[:, second]))
    x, y = (np.where(known, aligned.bounded[:, k], np.nan) for k in (first, second))
    means = aligned.patient_means(np.stack([x, y], axis=1))
    differences, folds = means[:, 0] - means[:, 1], aligned.patient_folds()
    weights = _weights(aligned, known, folds, settings.average)
    tests = _mean_tests(differences, weights)
    pairs = []
    for place, metric in enumerate(aligned.metrics):
        has = weights[:, place] > 0
        mine, each, margin = means[has, :, place], differences[has, place], margin_of(metric, settings)
        rounded = np.round(each, DECIMALS)
        pairs.append(
            Comparison(
                aligned.models[first],
                aligned.models[second],
                metric,
                margin,
                num_patients=int(has.sum()),
                num_images=int(known[:, place].sum()),
                left_out=int((either & ~both).sum()),
                mean=tests[place],
                p_adjusted=np.nan,
                sd=float(rounded.std(ddof=1)) if has.sum() > 1 else np.nan,
                positive=int((rounded > 0).sum()),
                negative=int((rounded < 0).sum()),
                ranks=wilcoxon_signed_rank(mine[:, 0], mine[:, 1]),
                ranks_p_adjusted=np.nan,
                equivalence=tost_paired(mine[:, 0], mine[:, 1], -margin, margin),
                folds=_over_folds(
                    each, weights[has, place], folds[has], training, (aligned.models[first], aligned.models[second])
                ),
                images=wilcoxon_signed_rank(x[known[:, place], place], y[known[:, place], place]),
                images_p_adjusted=np.nan,
                num_tests=0,
            )
        )
    return pairs


def _weights(
    aligned: Aligned, known: npt.NDArray[np.bool_], folds: npt.NDArray[np.int64], average: bootstrap.Average
) -> Floats:
    """Return each patient's share `(P, M)` in the average; 0 without an image that both models have.

    Args:
        aligned: Scores of all models.
        known: `(N, M)`: whether both models have a value of the image.
        folds: The fold `(P,)` of each patient.
        average: Whether the patients of a fold have equal shares, or its images.
    """
    _, patient = np.unique(aligned.patients, return_inverse=True)
    number = np.zeros((len(folds), known.shape[1]))
    np.add.at(number, patient, known)
    if average == "patients":
        number = np.sign(number)
    _, fold = np.unique(folds, return_inverse=True)
    in_fold = np.zeros((fold.max(initial=-1) + 1, known.shape[1]))
    np.add.at(in_fold, fold, number)
    of_fold = np.divide(number, in_fold[fold], out=np.zeros_like(number), where=number > 0)
    return of_fold / np.maximum((in_fold > 0).sum(axis=0), 1)


def _mean_tests(differences: Floats, weights: Floats) -> list[Test]:
    """Test the weighted mean of differences `(P, M)` in each metric; patients without weight are left out."""
    tests: dict[int, Test] = {}
    columns, group = np.unique(weights, axis=1, return_inverse=True)  # metrics of the same images share flips
    for number, shares in enumerate(columns.T):
        places, has = np.flatnonzero(group.ravel() == number), shares > 0
        found = sign_flip_tests(differences[np.ix_(has, places)], shares[has])
        tests |= dict(zip(places.tolist(), found, strict=True))
    return [tests[place] for place in range(differences.shape[1])]


def _over_folds(
    differences: Floats, weights: Floats, folds: npt.NDArray[np.int64], training: Training, models: tuple[str, str]
) -> Test:
    """Test patients' differences `(n,)` over folds; NaN with fewer than two folds."""
    numbers, index = np.unique(folds, return_inverse=True)
    means = np.bincount(index, weights * differences) / np.bincount(index, weights)
    ratio = training.test_to_train(models, [int(number) for number in numbers]) if len(numbers) else np.nan
    if np.isnan(ratio):
        return Test("Nadeau-Bengio", len(numbers), np.nan, np.nan, np.nan, "mean difference")
    return nadeau_bengio(means, ratio)
