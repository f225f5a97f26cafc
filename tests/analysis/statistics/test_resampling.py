"""Patient bootstrap, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eus_ray.analysis import statistics
from eus_ray.analysis.statistics import bootstrap

pytestmark = pytest.mark.filterwarnings("error")


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
    assert some == statistics.patient_bootstrap([0.2, 0.4], ["a", "b"])
    assert some.value == pytest.approx(0.3)
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
