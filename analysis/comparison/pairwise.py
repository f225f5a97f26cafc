"""Pairwise comparison of models: all tests of two models in one metric.

The unit is the patient: their value is the mean over their images, and an infinite distance counts as the image's
diagonal. A pair is compared on the images that both models have.
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
    signed_rank_by_signs,
    tost_paired,
    wilcoxon_signed_rank,
)
from eus_ray.errors import UserError

DECIMALS = 10
"""The signed rank test also treats differences that agree to so many decimals as equal."""


@dataclass(frozen=True)
class Margins:
    """Equivalence margins: a smaller difference counts as none."""

    ratio: float = 0.02
    distance: float = 2.0
    """In the unit of distances, px or mm."""

    def of(self, metric: str) -> float:
        """Return the margin of a metric."""
        return self.distance if metric in DISTANCES else self.ratio


def read_margins(settings: Mapping[str, Any]) -> Margins:
    """Read `analysis.margin` and `analysis.distance_margin` of a study.

    Raises:
        UserError: If one of them is not a positive number.
    """
    fields = {"margin": "ratio", "distance_margin": "distance"}
    table = settings.get("analysis", {})
    given = {name: table[name] for name in fields if name in table}
    lines = [
        f"study.toml: analysis.{name} must be a number above 0, not {value!r}"
        for name, value in given.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf
    ]
    if lines:
        raise UserError(*lines)
    return Margins(**{fields[name]: value for name, value in given.items()})


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
    """Two models in one metric.

    Differences are first minus second; unknown values are NaN.
    """

    first: str
    second: str
    metric: str
    margin: float
    num_patients: int
    num_images: int
    left_out: int
    """Images that only one of the two has."""
    difference: float
    """Mean difference of the patients' means."""
    low: float
    """95 % interval of `difference`: patients are resampled with all their images. NaN with a single patient."""
    high: float
    sd: float
    """SD of the patients' differences, ddof 1."""
    patients: Test
    """Wilcoxon signed rank of the patients' means: the test to believe."""
    p_adjusted: float
    """Its p, adjusted by Holm over the pairs within the metric."""
    by_signs: float
    """The same test's p over all signs of these differences: exact with ties too."""
    by_signs_adjusted: float
    equivalence: Tost
    """TOST of the patients' means, within ± margin."""
    folds: Test
    """Nadeau-Bengio of the folds' mean differences of their patients: would other trainings say the same?"""
    folds_p_adjusted: float
    images: Test
    """Wilcoxon signed rank of the images, as in the paper; images are not independent."""
    images_p_adjusted: float
    num_tests: int
    """Number of pairs within the metric that could be tested: Holm adjusts for these."""

    @property
    def is_constant(self) -> bool:
        """Return whether all patients have the same difference."""
        return not self.sd > 10**-DECIMALS

    @property
    def is_same(self) -> bool:
        """Return whether the two models agree on every patient."""
        return self.num_patients > 1 and self.sd == 0 and abs(self.difference) < 10**-DECIMALS


def compare_pairs(
    aligned: Aligned,
    training: Training,
    margins: Margins | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = bootstrap.SEED,
) -> tuple[Comparison, ...]:
    """Compare all pairs of models in each metric.

    Args:
        aligned: Scores of all models.
        training: Sizes of test and training sets.
        margins: Equivalence margins.
        draws: Number of bootstrap samples of patients.
        seed: Seed of these samples.

    Returns:
        Pairs in the order of the models, and metrics within a pair; none for a single model.
    """
    margins = margins or Margins()
    found = [
        pair
        for first, second in combinations(range(len(aligned.models)), 2)
        for pair in _compare(aligned, first, second, training, margins, draws, seed)
    ]
    for metric in aligned.metrics:
        places = [place for place, pair in enumerate(found) if pair.metric == metric]
        p_values = {
            "p_adjusted": [found[place].patients.p_value for place in places],
            "folds_p_adjusted": [found[place].folds.p_value for place in places],
            "images_p_adjusted": [found[place].images.p_value for place in places],
            "by_signs_adjusted": [found[place].by_signs for place in places],
        }
        adjusted = pd.DataFrame({name: holm(values) for name, values in p_values.items()}, dtype=np.float64)
        num_tests = int(adjusted["p_adjusted"].notna().sum())
        for place, row in zip(places, adjusted.to_dict("records"), strict=True):
            found[place] = replace(found[place], num_tests=num_tests, **{str(name): row[name] for name in p_values})
    return tuple(found)


def _compare(
    aligned: Aligned, first: int, second: int, training: Training, margins: Margins, draws: int, seed: int
) -> list[Comparison]:
    """Compare two models in all metrics, without adjustment for the number of pairs."""
    both = aligned.predicted[:, first] & aligned.predicted[:, second]
    either = aligned.predicted[:, first] | aligned.predicted[:, second]
    known = ~(np.isnan(aligned.bounded[:, first]) | np.isnan(aligned.bounded[:, second]))
    x, y = (np.where(known, aligned.bounded[:, k], np.nan) for k in (first, second))
    means = aligned.patient_means(np.stack([x, y], axis=1))
    differences = np.round(means[:, 0] - means[:, 1], DECIMALS)
    in_pair = np.isin(aligned.patient_names(), aligned.patients[both])
    low, high = np.full((2, len(aligned.metrics)), np.nan)
    if in_pair.any():
        names = aligned.patient_names()[in_pair]
        drawn = bootstrap.bootstrap(differences[in_pair], names, np.zeros(len(names), np.int64), draws, seed)
        low, high = bootstrap.interval(drawn)
    folds = aligned.patient_folds()
    pairs = []
    for place, metric in enumerate(aligned.metrics):
        has = ~np.isnan(differences[:, place])
        mine = means[has, :, place]
        margin = margins.of(metric)
        pairs.append(
            Comparison(
                aligned.models[first],
                aligned.models[second],
                metric,
                margin,
                num_patients=int(has.sum()),
                num_images=int(known[:, place].sum()),
                left_out=int((either & ~both).sum()),
                difference=float(differences[has, place].mean()) if has.any() else np.nan,
                low=float(low[place]) if has.sum() > 1 else np.nan,
                high=float(high[place]) if has.sum() > 1 else np.nan,
                sd=float(differences[has, place].std(ddof=1)) if has.sum() > 1 else np.nan,
                patients=wilcoxon_signed_rank(mine[:, 0], mine[:, 1]),
                p_adjusted=np.nan,
                by_signs=signed_rank_by_signs(mine[:, 0], mine[:, 1]),
                by_signs_adjusted=np.nan,
                equivalence=tost_paired(mine[:, 0], mine[:, 1], -margin, margin),
                folds=_over_folds(
                    differences[has, place], folds[has], training, (aligned.models[first], aligned.models[second])
                ),
                folds_p_adjusted=np.nan,
                images=wilcoxon_signed_rank(x[known[:, place], place], y[known[:, place], place]),
                images_p_adjusted=np.nan,
                num_tests=0,
            )
        )
    return pairs


def _over_folds(differences: Floats, folds: npt.NDArray[np.int64], training: Training, models: tuple[str, str]) -> Test:
    """Test patients' differences `(n,)` over folds; NaN with fewer than two folds."""
    numbers = np.unique(folds)
    means = bootstrap.fold_means(differences[:, None], folds)[:, 0]
    ratio = training.test_to_train(models, [int(number) for number in numbers]) if len(numbers) else np.nan
    if np.isnan(ratio):
        return Test("Nadeau-Bengio", len(numbers), np.nan, np.nan, np.nan, "mean difference")
    return nadeau_bengio(means, ratio)
