"""Fold means and the patient-cluster bootstrap, against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from eus_ray.analysis.statistics import bootstrap


def test_mean_of_fold_means_is_not_the_mean_over_images() -> None:
    values = np.array([[1.0, 2.0], [0.0, 4.0], [0.5, math.nan]])
    means = bootstrap.fold_means(values, [1, 1, 0])
    np.testing.assert_array_equal(means, [[0.5, math.nan], [0.5, 3.0]])
    np.testing.assert_array_equal(bootstrap.mean_of_fold_means(means), [0.5, 3.0])
    np.testing.assert_array_equal(bootstrap.mean_of_fold_means(np.full((2, 1), math.nan)), [math.nan])


def test_bootstrap_equals_a_loop_over_drawn_patients() -> None:
    """The same patients drawn, their images copied out one by one, and averaged."""
    rng = np.random.default_rng(3)
    patients = np.array(["a", "a", "a", "b", "c", "c", "d", "e", "e", "e", "e"])
    folds = np.array([0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2])
    values = rng.random((11, 2))
    values[4, 1] = math.nan
    drawn = bootstrap.bootstrap(values, patients, folds, draws=50, seed=7)
    for draw in range(50):
        of_folds = []
        for fold in (0, 2):
            names = np.unique(patients[folds == fold])
            weights = np.random.default_rng((7, fold)).multinomial(len(names), [1 / len(names)] * len(names), size=50)[
                draw
            ]
            copies = [
                values[patients == name] for name, times in zip(names, weights, strict=True) for _ in range(times)
            ]
            of_folds.append(np.nanmean(np.concatenate(copies), axis=0))
        np.testing.assert_allclose(drawn[draw], np.mean(of_folds, axis=0), rtol=1e-12)


def test_images_of_one_patient_are_no_evidence_of_their_own() -> None:
    """20 patients, each with 10 equal images: the interval is that of 20 values, not of 200."""
    each = np.random.default_rng(0).normal(0.7, 0.1, 20)
    patients = np.repeat(np.arange(20), 10)
    low, high = bootstrap.interval(bootstrap.bootstrap(np.repeat(each, 10)[:, None], patients, np.zeros(200)))
    expected = 2 * 1.96 * each.std() / math.sqrt(20)
    assert high[0] - low[0] == pytest.approx(expected, rel=0.1)


def test_the_same_draws_for_every_model_and_every_time() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 30, 1))
    patients, folds = np.repeat(np.arange(10), 3), np.repeat([0, 1], 15)
    apart = [bootstrap.bootstrap(values, patients, folds) for values in (first, second)]
    together = bootstrap.bootstrap(np.hstack([first, second]), patients, folds)
    np.testing.assert_allclose(np.hstack(apart), together, rtol=1e-12)
    # A model that lacks a fold keeps the draws of the others.
    last = bootstrap.bootstrap(first[15:], patients[15:], folds[15:])
    np.testing.assert_allclose(bootstrap.bootstrap(first[:15], patients[:15], folds[:15]) / 2 + last / 2, apart[0])


def test_interval_leaves_out_unknown_draws() -> None:
    drawn = np.array([[1.0, math.nan], [2.0, math.nan], [math.nan, math.nan], [3.0, math.nan]])
    low, high = bootstrap.interval(drawn)
    assert low[0] == pytest.approx(1.05)
    assert high[0] == pytest.approx(2.95)
    assert math.isnan(low[1])
    assert math.isnan(high[1])


def test_interval_of_a_fold_with_two_patients_by_hand() -> None:
    """Fold 1 draws bb, bc, cb or cc: means .45, .3, .3, 0; fold 0 has one patient and is always .9."""
    drawn = bootstrap.bootstrap(np.array([[0.9], [0.3], [0.6], [0.0]]), list("abbc"), [0, 1, 1, 1])
    low, high = bootstrap.interval(drawn)
    assert (low[0], high[0]) == (pytest.approx((0.9 + 0.0) / 2), pytest.approx((0.9 + 0.45) / 2))


def test_a_fold_with_a_single_patient_tells_nothing_of_how_patients_differ() -> None:
    np.testing.assert_array_equal(bootstrap.patients_in_folds(list("abbcc"), [2, 0, 0, 0, 0]), [2, 1])
    assert not bootstrap.has_interval(list("abbcc"), [2, 0, 0, 0, 0])
    assert bootstrap.has_interval(list("abbcc"), [0] * 5)
    assert not bootstrap.has_interval(["a", "a"], [0, 0])


def test_with_few_patients_a_fold_an_interval_covers_less_than_it_says() -> None:
    def covers(number: int, folds: int = 5) -> float:
        reach = 1.96 * math.sqrt((number - 1) / number)
        return float(1 - 2 * scipy.stats.t.sf(reach, folds * (number - 1)))

    assert covers(bootstrap.FEWEST_IN_A_FOLD) == pytest.approx(0.86, abs=0.005)
    assert covers(bootstrap.FEWEST_IN_A_FOLD - 1) == pytest.approx(0.78, abs=0.005)


def test_infinite_distances_count_as_the_diagonal() -> None:
    frame = pd.DataFrame({"hd": [3.0, math.inf], "dsc": [0.8, 0.0], "diagonal": [90.0, 80.0]})
    assert bootstrap.at_diagonal(frame)["hd"].tolist() == [3.0, 80.0]
    others = frame.assign(diagonal=frame["diagonal"].where(np.isinf(frame["hd"])))
    assert bootstrap.at_diagonal(others)["hd"].tolist() == [3.0, 80.0], "where it is needed, it is there"
    assert bootstrap.at_diagonal(frame.iloc[:1].drop(columns="diagonal"))["hd"].tolist() == [3.0]
    with pytest.raises(ValueError, match="hd: infinite values need the images' diagonal"):
        bootstrap.at_diagonal(frame.drop(columns="diagonal"))
