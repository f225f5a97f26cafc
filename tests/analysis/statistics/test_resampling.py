"""Patient bootstrap and BBC-CV: by hand, against loops that copy rows, and on data without signal."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from eus_ray.analysis import statistics
from eus_ray.analysis.comparison.selection_bias import choose_again
from eus_ray.analysis.measures import image_metrics
from eus_ray.analysis.statistics import bootstrap
from eus_ray.analysis.statistics.resampling import draw_patients

pytestmark = pytest.mark.filterwarnings("error")
Floats = np.ndarray


# ---- patient bootstrap --------------------------------------------------------------------------


def test_a_patient_drawn_twice_counts_twice() -> None:
    """One image of 0 and three of 1: a quarter of the draws has mean 0, a half 3/4, a quarter 1."""
    values, patients = [0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"]
    whole = statistics.patient_bootstrap(values, patients)
    assert (whole.value, whole.low, whole.high) == (0.75, 0.0, 1.0)
    middle = statistics.patient_bootstrap(values, patients, level=0.4)
    assert (middle.low, middle.high) == (0.75, 0.75)
    # The mean of patient means would be 1/2.
    assert statistics.patient_bootstrap([0.0, 1.0], ["a", "b"]).value == 0.5


def test_within_folds_it_is_the_interval_of_the_headline() -> None:
    """The mean of fold means, not over images; patients never change their fold."""
    rng = np.random.default_rng(2)
    patients, folds = np.repeat(np.arange(12), 3), np.repeat([0, 0, 0, 1, 1, 1], 6)
    values = rng.random(36) + folds
    found = statistics.patient_bootstrap(values[:30], patients[:30], folds[:30], draws=300, seed=5)
    assert found.value == pytest.approx((values[:18].mean() + values[18:30].mean()) / 2)
    drawn = bootstrap.bootstrap(values[:30, None], patients[:30], folds[:30], 300, 5)[:, 0]
    assert (found.low, found.high) == tuple(np.percentile(drawn, [2.5, 97.5]))
    alone = statistics.patient_bootstrap([1.0, 3.0, 5.0], ["a", "a", "b"], [0, 0, 4])
    assert (alone.value, alone.low, alone.high) == (3.5, 3.5, 3.5)


def test_bootstrap_leaves_unknown_values_out() -> None:
    some = statistics.patient_bootstrap([0.2, math.nan, 0.4], ["a", "a", "b"])
    assert some == statistics.patient_bootstrap([0.2, 0.4], ["a", "b"]) and some.value == pytest.approx(0.3)
    for none in ([], [math.nan, math.nan]):
        found = statistics.patient_bootstrap(none, list("ab")[: len(none)], draws=10)
        assert all(map(math.isnan, (found.value, found.low, found.high)))
    one = statistics.patient_bootstrap([0.5, 0.7], ["a", "a"], draws=10)
    assert (one.value, one.low, one.high) == pytest.approx((0.6, 0.6, 0.6))


def test_bootstrap_bad_input() -> None:
    for values, patients, folds in [
        ([1.0, 2.0], ["a"], None),
        ([1.0, 2.0], ["a", "b"], [0]),
        ([[1.0, 2.0]], [["a", "b"]], None),
    ]:
        with pytest.raises(ValueError, match="one dimension and one length"):
            statistics.patient_bootstrap(values, patients, folds)
    with pytest.raises(ValueError, match="infinite"):
        statistics.patient_bootstrap([1.0, math.inf], ["a", "b"])
    with pytest.raises(ValueError, match="folds: must be integers, not float64"):
        statistics.patient_bootstrap([1.0, 2.0], ["a", "b"], [0.0, 0.5])
    with pytest.raises(ValueError, match="draws: must be at least 1"):
        statistics.patient_bootstrap([1.0, 2.0], ["a", "b"], draws=0)
    with pytest.raises(ValueError, match="level: must lie between 0 and 1"):
        statistics.patient_bootstrap([1.0, 2.0], ["a", "b"], level=95)


# ---- BBC-CV -------------------------------------------------------------------------------------


def test_bbc_by_hand() -> None:
    """Of two rows one is drawn twice and judges the other: by the first .9 wins and gets .2, by the second .6 gets .5.

    Both configurations have a mean of .55, and the first of equals is the winner.
    """
    found = statistics.bbc_cv([[0.9, 0.5], [0.2, 0.6]], draws=4000)
    assert (found.naive, found.winner) == (pytest.approx(0.55), 0)
    assert found.estimate == pytest.approx(0.35, abs=0.01)
    assert (found.low, found.high) == (0.2, 0.5)
    assert found.bias == pytest.approx(found.naive - found.estimate)
    # Where lower is better: .5 wins and gets .6, .2 wins and gets .9.
    distance = statistics.bbc_cv([[0.9, 0.5], [0.2, 0.6]], better="lower", draws=4000)
    assert (distance.low, distance.high, distance.winner) == (0.6, 0.9, 0)
    assert distance.bias < 0


def literal_bbc(
    values: Floats, patients: list[str], better: str, draws: int, seed: int, score: Callable[[Floats, list[int]], float]
) -> list[float]:
    """One draw, one configuration, one row at a time; `score(column, rows)` sees the rows copied out."""
    names, rng = sorted(set(patients)), np.random.default_rng(seed)
    judged: list[float] = []
    while len(judged) < draws:
        times = dict(zip(names, draw_patients(len(names), 1, rng)[0], strict=True))
        inside = [row for row, name in enumerate(patients) for _ in range(times[name])]
        outside = [row for row, name in enumerate(patients) if times[name] == 0]
        scores = [score(column, inside) for column in values.T]
        if any(map(math.isnan, scores)):
            continue
        winner = scores.index(max(scores) if better == "higher" else min(scores))
        loss = score(values[:, winner], outside)
        if not math.isnan(loss):
            judged.append(loss)
    return judged


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("clustered", [True, False])
def test_bbc_is_the_literal_one(better: str, clustered: bool) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.7, 0.1, (25, 6))
    patients = [f"p{place:02d}" for place in (rng.integers(0, 9, 25) if clustered else np.arange(25))]
    judged = literal_bbc(values, patients, better, 200, 3, lambda column, rows: float(column[rows].mean()))
    found = statistics.bbc_cv(values, patients if clustered else None, better, draws=200, seed=3)
    assert found.estimate == pytest.approx(np.mean(judged), rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(judged, [2.5, 97.5])), rel=1e-12)
    means = values.mean(axis=0)
    assert found.winner == (means.argmax() if better == "higher" else means.argmin())
    assert found.naive == pytest.approx(means[found.winner], rel=1e-12)


def test_images_of_a_drawn_patient_all_come_along() -> None:
    """Each patient judges the other. The score is of images, so the patient with three of them weighs three times."""
    values = np.array([[0.0, 0.3], [1.0, 0.4], [1.0, 0.5], [1.0, 0.6]])
    found = statistics.bbc_cv(values, ["a", "b", "b", "b"], draws=2000)
    assert (found.naive, found.winner) == (0.75, 0)
    assert (found.low, found.high) == (0.0, 0.5)
    # Drawn a: .3 wins, judged on b at .5. Drawn b: 1 wins, judged on a at 0.
    assert found.estimate == pytest.approx(0.25, abs=0.02)


def test_it_agrees_with_the_searchs_own() -> None:
    """The search's BBC takes one value a patient; with one fold its criterion is their mean."""
    test = np.random.default_rng(0).normal(0.7, 0.1, (8, 20))
    winners, outside = choose_again(test, np.zeros(20, np.int64), draws=300, seed=6)
    found = statistics.bbc_cv(test.T, draws=300, seed=6)
    assert found.estimate == pytest.approx(outside[np.arange(300), winners].mean(), rel=1e-12)


def test_the_first_of_equals_wins() -> None:
    column = np.random.default_rng(0).normal(70, 10, 60)
    copies = np.stack([column] * 37, axis=1)
    found = statistics.bbc_cv(copies, draws=50)
    assert found.winner == 0

    judged = []

    def remembering(values: Floats, weights: Floats) -> Floats:
        judged.append(values.shape[1])
        # What rounding does to a sum, made plain.
        return weights @ values / weights.sum() + np.linspace(0, 1e-13, values.shape[1])

    assert statistics.bbc_cv(copies, draws=50, score=remembering).winner == 0 and set(judged) == {37, 1}


def pooled_auc(truth: Floats) -> Callable[[Floats, Floats], list[float]]:
    def score(values: Floats, weights: Floats) -> list[float]:
        drawn = np.repeat(np.arange(len(truth)), weights)
        return [image_metrics.auc(column[drawn], truth[drawn]) for column in values.T]

    return score


def test_an_auc_is_computed_anew_on_the_rows() -> None:
    """Few positives, so that draws of one class happen on either side, and are drawn again."""
    rng = np.random.default_rng(4)
    truth = np.arange(14) < 3
    values = rng.normal(0, 1, (14, 5)) + truth[:, None]
    patients = [f"p{place:02d}" for place in range(14)]
    alone = []

    def literal(column: Floats, rows: list[int]) -> float:
        positive, negative = ([row for row in rows if truth[row] == label] for label in (True, False))
        if not positive or not negative:
            alone.append(rows)
            return math.nan
        above = sum(column[one] > column[other] for one in positive for other in negative)
        equal = sum(column[one] == column[other] for one in positive for other in negative)
        return float((above + equal / 2) / (len(positive) * len(negative)))

    judged = literal_bbc(values, patients, "higher", 150, 8, literal)
    assert len(alone) > 20
    found = statistics.bbc_cv(values, draws=150, seed=8, score=pooled_auc(truth))
    assert found.estimate == pytest.approx(np.mean(judged), rel=1e-12)
    areas = [roc_auc_score(truth, column) for column in values.T]
    assert found.winner == int(np.argmax(areas)) and found.naive == pytest.approx(max(areas))
    assert found.bias == pytest.approx(max(areas) - np.mean(judged))


def test_bbc_of_too_few() -> None:
    for found in (
        statistics.bbc_cv([[0.4, 0.6]]),
        statistics.bbc_cv([[0.4, 0.5], [0.4, 0.7]], ["a", "a"]),
    ):
        assert (found.naive, found.winner) == (pytest.approx(0.6), 1)
        assert all(map(math.isnan, (found.estimate, found.low, found.high, found.bias)))
    # The only positive is either drawn or not: there never is an area on both sides.
    truth = np.array([True, False, False, False])
    scores = np.array([[0.9], [0.5], [0.2], [0.1]])
    found = statistics.bbc_cv(scores, draws=30, score=pooled_auc(truth))
    assert (found.naive, found.winner) == (1.0, 0) and math.isnan(found.estimate)
    nothing = statistics.bbc_cv(scores, draws=30, score=pooled_auc(np.zeros(4, dtype=bool)))
    assert nothing.winner is None and math.isnan(nothing.naive)


def test_bbc_bad_input() -> None:
    for scores, line in [
        ([0.1, 0.2], "scores: must have 2 dimensions"),
        (np.empty((3, 0)), "scores: has no columns"),
        (np.empty((0, 3)), "scores: has no rows"),
        ([[0.1, math.nan]], "scores: holds NaN"),
        ([[0.1, math.inf]], "scores: holds infinite"),
    ]:
        with pytest.raises(ValueError, match=line):
            statistics.bbc_cv(scores)
    good = [[0.1, 0.2], [0.3, 0.4]]
    with pytest.raises(ValueError, match="patients: must have one name a row"):
        statistics.bbc_cv(good, ["a"])
    with pytest.raises(ValueError, match="better: must be higher or lower"):
        statistics.bbc_cv(good, better="max")
    with pytest.raises(ValueError, match="draws: must be at least 1"):
        statistics.bbc_cv(good, draws=0)
    with pytest.raises(ValueError, match=r"score: must give \(2,\) numbers"):
        statistics.bbc_cv(good, score=lambda values, weights: 0.5)
    with pytest.raises(ValueError, match="score: gave an infinite value"):
        statistics.bbc_cv(good, score=lambda values, weights: np.full(values.shape[1], math.inf))


def test_without_signal_only_the_naive_score_is_too_good() -> None:
    """Forty equal configurations on forty patients of two images each, sixty times."""
    rng = np.random.default_rng(0)
    naive, corrected = [], []
    patients = np.repeat(np.arange(40), 2)
    for repeat in range(60):
        people = rng.normal(0.7, 0.1, 40)
        values = people[patients][:, None] + rng.normal(0, 0.09, (80, 40))
        found = statistics.bbc_cv(values, patients, draws=100, seed=repeat)
        naive.append(found.naive - people.mean())
        corrected.append(found.estimate - people.mean())
    assert np.mean(naive) > 0.015
    assert abs(np.mean(corrected)) < 0.004
